"""One module for each revision; they are history and never edited."""
