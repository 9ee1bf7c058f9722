"""Before the first episode: would these demonstrations succeed here, and is this what the checkpoint was trained on?"""
