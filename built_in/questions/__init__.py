"""Questions about pictures, each with a unique right answer; ambiguous questions are not generated."""
