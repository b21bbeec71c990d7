"""Read what is stored or run the model again: the candidates, their predicted costs, the choice, the run."""
