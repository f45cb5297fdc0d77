"""Check that a server speaks the Open Inference Protocol V2, whoever wrote it, with other projects' clients."""
