"""From requests to events: the loop, the scheduler, and the state of what runs."""
