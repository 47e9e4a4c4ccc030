"""Learning: the policy network, PPO inside one compiled update, the curriculum, checkpoints.

Nothing here knows what a bar, a rulebook or an account is: it sees observations, masks and rewards.
"""
