"""What can be told of a request and its answer in numbers and categories, whatever the task."""
