"""The application of a tutorial: FastAPI with sync endpoints, SQLAlchemy's ORM, a commit per request, boto3, PyJWT.

`BENCH_DATABASE` is the path of the database, `BENCH_PUBLIC_KEY` of the PEM key that verifies tokens, and `BENCH_S3` the
address of an S3 if it is not AWS's.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import boto3
import jwt
from botocore.config import Config
from botocore.exceptions import ClientError
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

BUCKET = "media-bucket"
PUBLIC_KEY = Path(os.environ["BENCH_PUBLIC_KEY"]).read_text()

# With SQLAlchemy's default of 15 connections, requests that hold one and those that wait for one take all of FastAPI's
# 40 threads from each other, and most requests fail after 30 seconds.
engine = create_engine(f"sqlite:///{os.environ['BENCH_DATABASE']}", max_overflow=-1)
SessionLocal = sessionmaker(engine)
s3 = boto3.client(
    "s3",
    region_name="eu-west-1",
    endpoint_url=os.environ.get("BENCH_S3"),
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
)
app = FastAPI()


class Base(DeclarativeBase):
    """The declarative base."""


class Media(Base):
    """One upload."""

    __tablename__ = "media"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    key: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int | None]
    filename: Mapped[str | None]


Base.metadata.create_all(engine)


class UploadRequest(BaseModel):
    """The upload that a client requests."""

    content_type: str
    size: int | None = None
    filename: str | None = None


def get_session() -> Iterator[Session]:
    """Open a session for one request."""
    with SessionLocal() as session:
        yield session


def get_owner(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """Return the subject of a valid token."""
    try:
        return str(jwt.decode(credentials.credentials, PUBLIC_KEY, algorithms=["RS256"])["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None


@app.post("/upload", status_code=201)
def create_upload(
    body: UploadRequest, owner: Annotated[str, Depends(get_owner)], session: Annotated[Session, Depends(get_session)]
) -> dict[str, Any]:
    """Record an upload and presign its POST."""
    media = Media(
        id=str(uuid.uuid4()), owner=owner, content_type=body.content_type, size=body.size, filename=body.filename
    )
    media.key = f"media/{media.id}.mp4"
    session.add(media)
    session.commit()
    upload = s3.generate_presigned_post(
        BUCKET,
        media.key,
        Fields={"Content-Type": media.content_type},
        Conditions=[{"Content-Type": media.content_type}, ["content-length-range", 1, 100_000_000]],
        ExpiresIn=900,
    )
    return {"success": True, "media_id": media.id, "upload": upload, "expires_in": 900}


@app.get("/{media_id}")
def get_link(
    media_id: str, owner: Annotated[str, Depends(get_owner)], session: Annotated[Session, Depends(get_session)]
) -> dict[str, Any]:
    """Presign a link to the object."""
    media = session.get(Media, media_id)
    if media is None or media.owner != owner:
        raise HTTPException(404)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": media.key}, ExpiresIn=3600)
    return {"success": True, "media_id": media.id, "signed_url": url, "expires_in": 3600}


@app.post("/{media_id}/complete")
def complete_upload(
    media_id: str, owner: Annotated[str, Depends(get_owner)], session: Annotated[Session, Depends(get_session)]
) -> dict[str, Any]:
    """Look for the object, record its size, and presign a link to it."""
    media = session.get(Media, media_id)
    if media is None or media.owner != owner:
        raise HTTPException(404)
    try:
        media.size = s3.head_object(Bucket=BUCKET, Key=media.key)["ContentLength"]
    except ClientError:
        raise HTTPException(409) from None
    session.commit()
    return get_link(media_id, owner, session)
