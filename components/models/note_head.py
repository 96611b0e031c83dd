"""A head that predicts a frame's notes one after the other, from the lowest up.

Shapes: N frames, K keys, H outputs of the recurrent stack, C hidden units of a key, X input features of a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.layers.base import moved
from components.models.frame_memory import DECAYS, FRAMES, RUNS, FrameMemory

CHUNK = 512  # frames at once, to bound the memory of the keys' hidden units
REACH = 24  # semitones on each side of a key in which notes of earlier frames are read
RANKS = 10  # limit of the count of a frame's notes


class NoteHead(nn.Module):
    """P(frame) = Π P(next note | the notes below it in this frame, the frames before) · P(no more).

    Every key above the last note, and "no more", gets a logit; a softmax over them is the next note's distribution. A
    key's logit comes from a network with two hidden layers of `size` units, shared by all keys. Its inputs are the last
    frames and the notes below as intervals from the key, how often each interval's pitch class has sounded, the key
    itself, the number of notes below, and the stack's output. So what is learned in one key applies in all.

    `dropout` applies to the first hidden layer, with the same mask for all keys and notes of a frame.

    For repetition: where the end of the piece matches an earlier place (FrameMemory), the next note of the frame that
    followed there is a feature, by the match's length and whether the notes below are that frame's too.
    """

    def __init__(self, keys: int, width: int, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.keys, self.dropout = keys, dropout

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) * 0.1)

        self.past = normal(size, FRAMES, 2 * REACH + 1)  # by interval
        self.classes = normal(size, len(DECAYS), 12)
        self.below = normal(2 * keys - 1, size)
        self.ranks = normal(RANKS, size)
        self.place = nn.Parameter(torch.zeros(keys, size))
        self.output = nn.Linear(width, size)
        self.second = nn.Linear(size, size)
        self.logit = nn.Parameter(normal(1, size) + torch.zeros(RANKS, size))
        self.own = nn.Linear(width, keys)
        self.runs = normal(len(RUNS) + 1, size)
        self.again = normal(2, len(RUNS) + 1, size)  # whether the notes below are those of the frame that followed
        self.no_more_output = nn.Linear(width, size)
        self.no_more_last = normal(RANKS, size)  # by the number of notes in the frame before
        self.no_more_ranks = normal(RANKS, size)
        self.no_more_below = normal(keys, size)
        self.no_more_again = normal(2, 2, len(RUNS) + 1, size)  # whether the other frame ends here
        self.no_more = nn.Linear(size, 1)

    def nats(self, y_NX: Tensor, frames_NK: Tensor) -> Tensor:
        """−log P of each frame, [N]. `y` holds the stack's output [N, H] and FrameMemory's features before the frame.
        Frames may be on the CPU, where counting the keys that are on needs no synchronisation."""
        count_N = (frames_NK > 0.5).sum(1)
        order_N = count_N.argsort(descending=True, stable=True)
        ordered = y_NX[moved(order_N, y_NX.device)].split(CHUNK), frames_NK[order_N].split(CHUNK)
        nats_N = torch.cat([self._nats(y, frames) for y, frames in zip(*ordered, strict=True)])
        return nats_N[moved(order_N.argsort(), y_NX.device)]

    def _nats(self, y_NX: Tensor, frames_NK: Tensor) -> Tensor:
        """−log P of frames sorted by number of notes, most first: those with an m-th note come first."""
        keys_NM = _keys(frames_NK)
        on_device_NM = moved(keys_NM, y_NX.device)
        writing, losses, lowest = Writing(self, y_NX), [], 0
        for rank in range(keys_NM.shape[1]):
            key_N = on_device_NM[: writing.rows, rank]
            loss_N = -writing.log_chances().gather(1, (key_N - lowest).unsqueeze(1)).squeeze(1)
            losses.append(nn.functional.pad(loss_N, (0, len(y_NX) - len(loss_N))))
            more = int((keys_NM[:, rank] < self.keys).sum())
            if more:
                lowest = min(int(keys_NM[:more, rank].min()) + 1, self.keys - 1)
                writing.add(on_device_NM[:more, rank], lowest)
        return torch.stack(losses).sum(0)

    def sample(self, y_NX: Tensor, uniform_NK: Tensor, temperature: float) -> Tensor:
        """A frame [N, K] for each y. The m-th note of a row is where the cumulative probability exceeds its m-th
        uniform number. `temperature` divides the logits; 0 takes the most likely note."""
        K, writing = self.keys, Writing(self, y_NX)
        frames_NK = torch.zeros_like(uniform_NK)
        ended_N = torch.zeros(len(y_NX), dtype=torch.bool, device=y_NX.device)
        for rank in range(K):
            logs_NK = writing.log_chances()
            key_N = logs_NK.argmax(1)
            if temperature:
                sums_NK = torch.softmax(logs_NK / temperature, 1).cumsum(1)
                key_N = (sums_NK <= uniform_NK[:, rank : rank + 1] * sums_NK[:, -1:]).sum(1).clamp(max=K)
            ended_N = ended_N | (key_N == K)
            if bool(ended_N.all()):
                break
            key_N = key_N.clamp(max=K - 1)  # rows that have ended continue, but are ignored
            heard_N1 = (~ended_N).to(frames_NK).unsqueeze(1)
            frames_NK = frames_NK + heard_N1 * nn.functional.one_hot(key_N, K)
            writing.add(key_N)
        return frames_NK


class Writing:
    """Partial frames of N rows, and the hidden units of the keys that may come next. Keys below `lowest` are excluded:
    axis K begins there."""

    def __init__(self, head: NoteHead, y_NX: Tensor) -> None:
        self.head, self.rank, self.lowest, self.rows = head, 0, 0, len(y_NX)
        K, device = head.keys, y_NX.device
        width = FrameMemory.width(K)
        y_NH, past, sounded, self.again_NK, run = y_NX.split(
            [y_NX.shape[1] - width, FRAMES * K, len(DECAYS) * 12, K, 1], dim=1
        )
        past_NFK, self.run_N = past.unflatten(1, (FRAMES, K)), run.squeeze(1).long()
        self.key_K = torch.arange(K, device=device)
        self.table_KKC = head.below[self.key_K - self.key_K.unsqueeze(1) + K - 1]  # a note's contribution to each key

        hidden_NKC = nn.functional.conv1d(past_NFK, head.past, padding=REACH).transpose(1, 2)
        twelve = torch.arange(12, device=device)
        classes_CDcc = head.classes[:, :, twelve - twelve.unsqueeze(1)]  # negative intervals wrap around the octave
        sounded_NcC = torch.einsum("ndj,cdkj->nkc", sounded.unflatten(1, (len(DECAYS), 12)), classes_CDcc)
        same_NC = head.output(y_NH) + head.runs[self.run_N]
        self.hidden_NKC = hidden_NKC + sounded_NcC[:, self.key_K % 12] + head.place + same_NC.unsqueeze(1)
        # the same for all keys and notes of a frame
        self.kept_N1C = nn.functional.dropout(torch.ones_like(same_NC), head.dropout, head.training).unsqueeze(1)
        self.own_NK = head.own(y_NH)
        before_N = past_NFK[:, 0].sum(1).long().clamp(max=RANKS - 1)
        self.no_more_NC = head.no_more_output(y_NH) + head.no_more_last[before_N]
        self.agrees_N = torch.ones_like(self.run_N)  # whether all notes so far are those of the other frame
        self.free_NK = torch.ones_like(self.again_NK)

    def log_chances(self) -> Tensor:
        """log P [N, K + 1] of each key as the next note, and of "no more"."""
        head, rank = self.head, min(self.rank, RANKS - 1)
        next_N, over_N = self._next_again()
        row_N = torch.arange(self.rows, device=next_N.device)
        mark_NC = head.again[self.agrees_N, self.run_N] * (1 - over_N).unsqueeze(1)
        hidden_NKC = (self.hidden_NKC + head.ranks[rank]).index_put((row_N, next_N), mark_NC, accumulate=True)
        hidden_NKC = torch.relu(hidden_NKC)
        if head.dropout and head.training:
            hidden_NKC = hidden_NKC * self.kept_N1C
        hidden_NKC = torch.relu(head.second(hidden_NKC))
        logits_NK = hidden_NKC @ head.logit[rank] + self.own_NK
        logits_NK = logits_NK.masked_fill(self.free_NK == 0, float("-inf"))
        no_more_NC = self.no_more_NC + head.no_more_ranks[rank] + head.no_more_again[over_N, self.agrees_N, self.run_N]
        return torch.log_softmax(torch.cat([logits_NK, head.no_more(torch.relu(no_more_NC))], 1), 1)

    def add(self, key_N: Tensor, lowest: int = 0) -> None:
        """Add a note to each of the first rows; the other rows are complete. None is below `lowest` − 1."""
        self.rows, self.rank = len(key_N), self.rank + 1
        for name in ("run_N", "agrees_N", "no_more_NC", "kept_N1C", "again_NK", "own_NK", "free_NK", "hidden_NKC"):
            setattr(self, name, getattr(self, name)[: self.rows])
        next_N, over_N = self._next_again()
        self.agrees_N = self.agrees_N * (1 - over_N) * (next_N + self.lowest == key_N)
        for name in ("again_NK", "own_NK", "hidden_NKC"):
            setattr(self, name, getattr(self, name)[:, lowest - self.lowest :])
        self.lowest = lowest
        self.hidden_NKC = self.hidden_NKC + self.table_KKC[:, lowest:][key_N]
        self.no_more_NC = self.no_more_NC + self.head.no_more_below[key_N]
        self.free_NK = (self.key_K[lowest:] > key_N.unsqueeze(1)).to(self.free_NK)

    def _next_again(self) -> tuple[Tensor, Tensor]:
        """The other frame's lowest note above the last one, and 1 if there is none, [N] both."""
        left_NK = self.again_NK * self.free_NK
        return left_NK.argmax(1), (left_NK.sum(1) == 0).long()


def _keys(frames_NK: Tensor) -> Tensor:
    """The keys that are on, from the lowest up, padded with K, [N, M]: at most M − 1 are on."""
    N, K = frames_NK.shape
    on_NK = frames_NK > 0.5
    rows, keys = on_NK.nonzero(as_tuple=True)
    keys_NM = torch.full((N, int(on_NK.sum(dim=1).max()) + 1), K, device=keys.device)
    keys_NM[rows, (on_NK.cumsum(dim=1) - 1)[rows, keys]] = keys
    return keys_NM
