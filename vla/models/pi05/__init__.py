"""The pi0.5-style student: SigLIP, a Gemma VLM and an adaRMS action expert, in the published layout."""
