"""Resumable uploads: a form for each part, the judgement of the parts, and their composition."""
