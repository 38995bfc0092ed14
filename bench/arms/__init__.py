"""What takes steps: a scheme of a case, the same in several processes, a game, and the arms that train for quality."""
