"""Group commit: operations gathered into batches for threads, and the deadlines of their answers."""
