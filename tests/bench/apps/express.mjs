// Express with jsonwebtoken and the AWS SDK's createPresignedPost.
// Arguments: the port, and the path of the PEM key that verifies tokens. The environment holds AWS's own names, and
// BENCH_S3, the address of an S3 if it is not AWS's.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { CopyObjectCommand, GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { createPresignedPost } from '@aws-sdk/s3-presigned-post'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import express from 'express'
import jwt from 'jsonwebtoken'

const [port, keyFile] = process.argv.slice(2)
const publicKey = readFileSync(keyFile)
const client = new S3Client({
  region: 'eu-west-1',
  ...(process.env.BENCH_S3 && { endpoint: process.env.BENCH_S3, forcePathStyle: true }),
  credentials: {
    accessKeyId: process.env.AWS_ACCESS_KEY_ID,
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
  },
})

function authenticate(request, response, next) {
  const [, token] = (request.headers.authorization ?? '').split(' ')
  try {
    request.owner = jwt.verify(token, publicKey, { algorithms: ['RS256'] }).sub
    next()
  } catch {
    response.status(401).json({ success: false })
  }
}

const server = express()
server.use(express.json())
server.post('/upload', authenticate, async (request, response) => {
  const { content_type: contentType } = request.body
  if (typeof contentType !== 'string') return response.status(422).json({ success: false })
  const id = randomUUID()
  const upload = await createPresignedPost(client, {
    Bucket: 'media-bucket',
    Key: `media/${id}.mp4`,
    Fields: { 'Content-Type': contentType },
    Conditions: [['content-length-range', 1, 100_000_000]],
    Expires: 900,
  })
  response.status(201).json({ success: true, media_id: id, upload, expires_in: 900 })
})
server.post('/:id/complete', authenticate, async (request, response) => {
  const staging = { Bucket: 'media-bucket', Key: `media/${request.params.id}.mp4` }
  const final = { Bucket: 'media-bucket', Key: `ready/${request.params.id}.mp4` }
  const head = await client.send(new HeadObjectCommand(staging))
  const source = { CopySource: `${staging.Bucket}/${staging.Key}`, CopySourceIfMatch: head.ETag }
  await client.send(new CopyObjectCommand({ ...final, ...source }))
  const url = await getSignedUrl(client, new GetObjectCommand(final), { expiresIn: 3600 })
  response.json({ success: true, media_id: request.params.id, size: head.ContentLength, signed_url: url })
})
server.listen(Number(port), '127.0.0.1')
