"""Questions about what a picture shows, each with the only right answer; none where the picture leaves a choice."""
