"""A masked PPO in one readable torch loop with torch.compile, for benchmarks/train.py to measure.

Written in the manner of CleanRL's single files: the rollout steps passline's lanes from Python,
acting and the loss are compiled functions, Adam steps are torch's own. It learns the same
objective as passline with the same network, batch and epochs; it keeps no telemetry.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from passline.envs.lanes import Lanes
from passline.learn.ppo import PPOConfig
from passline.task.actions import N_ACTIONS
from passline.task.prepare import OBSERVATION_NAMES

__all__ = ["TorchLoop"]

N_FEATURES = len(OBSERVATION_NAMES)
MASKED_LOGIT = -1e9


def net(n_out: int, gain: float, hidden: tuple[int, ...]) -> nn.Sequential:
    """A tanh network with orthogonal weights."""
    layers: list[nn.Module] = []
    n_in = N_FEATURES
    for width in hidden:
        layers += [orthogonal(nn.Linear(n_in, width), 2**0.5), nn.Tanh()]
        n_in = width
    return nn.Sequential(*layers, orthogonal(nn.Linear(n_in, n_out), gain))


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """Draws a layer's weights."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class TorchLoop:
    """One training; `update` plays a rollout and takes its gradient steps."""

    def __init__(self, lanes: Lanes, config: PPOConfig, *, seed: int) -> None:
        torch.manual_seed(seed)
        self.lanes, self.config = lanes, config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.actor = net(N_ACTIONS, 0.01, config.hidden).to(self.device)
        self.critic = net(1, 1.0, config.hidden).to(self.device)
        self.params = [*self.actor.parameters(), *self.critic.parameters()]
        self.adam = torch.optim.Adam(self.params, lr=config.learning_rate, eps=1e-5)
        self.act = torch.compile(self._act, dynamic=False)
        self.loss = torch.compile(self._loss, dynamic=False)
        self.view: Any = lanes.reset(np.random.default_rng(seed))

    def _log_probs(self, obs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(torch.where(mask, self.actor(obs), MASKED_LOGIT), dim=1)

    def _act(
        self, obs: torch.Tensor, mask: torch.Tensor, uniform: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draws legal actions by inverting the cumulative distribution."""
        log_probs = self._log_probs(obs, mask)
        sums = torch.cumsum(torch.exp(log_probs), dim=1)
        action = (sums <= uniform[:, None] * sums[:, -1:]).sum(dim=1).clamp(max=N_ACTIONS - 1)
        log_prob = log_probs.gather(1, action[:, None])[:, 0]
        return action, log_prob, self.critic(obs)[:, 0]

    def _loss(self, part: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Clipped objective, squared value error and entropy over legal actions."""
        obs, mask, action, old_log_prob, advantage, target = part
        log_probs = self._log_probs(obs, mask)
        ratio = torch.exp(log_probs.gather(1, action[:, None])[:, 0] - old_log_prob)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        clip = self.config.clip_range
        clipped = torch.clamp(ratio, 1 - clip, 1 + clip)
        policy = -torch.minimum(advantage * ratio, advantage * clipped).mean()
        entropy = -torch.where(mask, torch.exp(log_probs) * log_probs, 0.0).sum(dim=1).mean()
        value = (self.critic(obs)[:, 0] - target).square().mean()
        return policy + self.config.value_coef * value - self.config.entropy_coef * entropy

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.as_tensor(array).to(self.device)

    @torch.no_grad()
    def rollout(self) -> tuple[torch.Tensor, ...]:
        """Plays T steps of L lanes; returns a flat batch."""
        config = self.config
        shape = (config.rollout_steps, config.n_lanes)
        obs = torch.empty((*shape, N_FEATURES), device=self.device)
        mask = torch.empty((*shape, N_ACTIONS), dtype=torch.bool, device=self.device)
        action = torch.empty(shape, dtype=torch.long, device=self.device)
        log_prob, value, reward, going_on = (torch.empty(shape, device=self.device) for _ in "abcd")
        uniforms = torch.rand(shape, device=self.device)
        for t in range(config.rollout_steps):
            obs[t], mask[t] = self._tensor(self.view.obs), self._tensor(self.view.action_mask)
            action[t], log_prob[t], value[t] = self.act(obs[t], mask[t], uniforms[t])
            step = self.lanes.step(action[t].cpu().numpy())
            self.view = step.now
            reward[t] = self._tensor(step.reward)
            going_on[t] = self._tensor(~(step.is_terminated | step.is_truncated)).float()
            cut = np.flatnonzero(step.is_truncated)
            if len(cut):
                last = self.critic(self._tensor(step.final.obs[cut]))[:, 0]
                reward[t, self._tensor(cut)] += config.gamma * last
        next_value = self.critic(self._tensor(self.view.obs))[:, 0]
        advantage = torch.empty_like(reward)
        carry = torch.zeros_like(next_value)
        for t in reversed(range(config.rollout_steps)):
            delta = reward[t] + config.gamma * next_value * going_on[t] - value[t]
            carry = delta + config.gamma * config.gae_lambda * going_on[t] * carry
            advantage[t], next_value = carry, value[t]
        batch = (obs, mask, action, log_prob, advantage, advantage + value)
        return tuple(column.flatten(0, 1) for column in batch)

    def update(self) -> None:
        """One rollout, then every epoch's gradient steps."""
        batch = self.rollout()
        size = self.config.minibatch_size
        for _ in range(self.config.n_epochs):
            order = torch.randperm(self.config.batch_size, device=self.device)
            for at in range(0, self.config.batch_size, size):
                rows = order[at : at + size]
                self.adam.zero_grad()
                self.loss(tuple(column[rows] for column in batch)).backward()
                nn.utils.clip_grad_norm_(self.params, self.config.max_grad_norm)
                self.adam.step()
