"""Looking: what a network is made of, how well a trained one does, and where it errs."""
