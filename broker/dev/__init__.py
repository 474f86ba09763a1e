"""What only development needs: an S3 of our own, and a page to try uploads on."""
