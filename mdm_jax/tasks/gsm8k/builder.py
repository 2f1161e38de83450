"""GSM8K's jsonl files as a TensorFlow Datasets builder; importing this imports tfds (slow)."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

tfds.disable_progress_bar()


class Gsm8kJsonl(tfds.core.GeneratorBasedBuilder):
    """Questions and answers, with their index in the file: tfds stores them in another order."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # tfds would look for this file with a package that it does not require

    def __init__(self, data_dir: str, records: dict[str, list[tuple[str, str]]]):
        """`records` are the (question, answer) pairs of each split; unused when prepared before."""
        self.records = records
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "index": tfds.features.Scalar(np.int64),
                "question": tfds.features.Text(),
                "answer": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterable[tuple[int, dict]]]:
        return {split: self._generate_examples(pairs) for split, pairs in self.records.items()}

    def _generate_examples(self, pairs: list[tuple[str, str]]) -> Iterator[tuple[int, dict]]:
        for index, (question, answer) in enumerate(pairs):
            yield index, {"index": index, "question": question, "answer": answer}
