"""The (candidate x data) mesh, its collectives and the engines that train on it."""
