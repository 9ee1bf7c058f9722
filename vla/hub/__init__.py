"""Models to the Hugging Face Hub and back: `push`, `pull`, `download_model`, each in its own file."""
