// Code of a TypeScript application with Uppy. tsc accepts all of it, except the lines marked as errors.
import Uppy from "@uppy/core";
import BrokerUpload, { type ReadyMedia } from "s3-media-broker-web/uppy";

const uppy = new Uppy().use(BrokerUpload, { getToken: () => "token", prefix: "https://api.example/api/v1/s3-media" });
uppy.on("upload-success", (_file, { body }) => console.log((body as unknown as ReadyMedia).media_id));

// @ts-expect-error: an upload needs a token, or a backend that issues
uppy.use(BrokerUpload, { prefix: "/" });
