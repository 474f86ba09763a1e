"""The checks of a deployment, one module for each part that the doctor examines."""
