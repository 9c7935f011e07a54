"""Recurrent classifiers over tokens: a two-layer bidirectional LSTM and a GRU."""

from typing import final

from torch import Tensor, nn

from tests.zoo.entry import Sample, net


@final
class LstmClassifier(nn.Module):
    """Embedding, bidirectional LSTM, last step, linear."""

    def __init__(self, vocabulary: int, dim: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, tokens: Tensor) -> Tensor:
        steps, _ = self.lstm(self.embedding(tokens))
        return self.head(steps[:, -1])


@final
class GruClassifier(nn.Module):
    """Embedding, GRU, mean over steps, linear."""

    def __init__(self, vocabulary: int, dim: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.gru = nn.GRU(dim, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        steps, _ = self.gru(self.embedding(tokens))
        return self.head(steps.mean(1))


_SMALL = {"tokens": Sample((10,), 50)}
_FULL = {"tokens": Sample((64,), 20000)}


@net(_SMALL, _FULL, tags="recurrent")
def lstm_classifier(reduced: bool) -> nn.Module:
    return LstmClassifier(50, 16, 12, 4) if reduced else LstmClassifier(20000, 128, 256, 4)


@net(_SMALL, _FULL, tags="recurrent")
def gru_classifier(reduced: bool) -> nn.Module:
    return GruClassifier(50, 16, 12, 4) if reduced else GruClassifier(20000, 128, 256, 4)
