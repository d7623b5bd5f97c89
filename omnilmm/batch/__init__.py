"""Many questions in one go: lists of pictures, answers through the scheduler, rows in a file that can be resumed."""
