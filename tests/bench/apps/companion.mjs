// Uppy Companion as its documentation mounts it: in an Express application of its own, with static S3 keys.
// Arguments: the port, and a directory for its files. The environment holds AWS's own names.
import * as companion from '@uppy/companion'
import express from 'express'

const [port, filePath] = process.argv.slice(2)
const { app } = companion.app({
  secret: 'a secret of the benchmark, of more than 32 bytes',
  filePath,
  server: { host: `127.0.0.1:${port}`, protocol: 'http' },
  corsOrigins: true,
  uploadUrls: [/^https:\/\//],
  s3: {
    key: process.env.AWS_ACCESS_KEY_ID,
    secret: process.env.AWS_SECRET_ACCESS_KEY,
    bucket: 'media-bucket',
    region: 'eu-west-1',
    endpoint: 'https://s3.{region}.amazonaws.com',
  },
})
const server = express()
server.use(app)
server.listen(Number(port), '127.0.0.1')
