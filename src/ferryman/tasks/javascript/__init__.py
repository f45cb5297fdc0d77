"""Write a task's preprocessing and postprocessing as one ES module without dependencies."""
