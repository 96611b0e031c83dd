"""What a person looks at and listens to: scores, piano rolls, audio, the listening page."""
