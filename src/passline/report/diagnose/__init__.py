"""What a training's logs say about it: read, questioned one by one, answered with remedies."""
