"""Scores by a teacher: a tiny cross-encoder against transformers itself, refusals, and a cache that survives a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, WeightsWarning, ZooError
from zoo.text.block_cache import RowsByText
from zoo.text.cross_encoder import CrossEncoderScorer
from zoo.text.teacher_scores import EncoderScorer, compute_scores, compute_vectors

PAIRS = [(tiny.SENTENCES[i % 40], tiny.SENTENCES[(7 * i + 3) % 120]) for i in range(100)]


def write_cross_encoder(folder, kind="bert", labels=1, seed=0):
    torch.manual_seed(seed)
    config = tiny.make_config(kind, 2, 32)
    config.num_labels = labels
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return write_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture
def folder(template, tmp_path):
    return shutil.copytree(template, tmp_path / "teacher")


def compute_logits(folder, pairs, max_length=tiny.MAX_LENGTH):
    """The logits by transformers alone, one pair at a time."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [
            model(**tokenizer(*pair, truncation=True, max_length=max_length, return_tensors="pt")).logits.item()
            for pair in pairs
        ]


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
def test_scores_are_the_logits_of_the_model(kind, tmp_path):
    folder = write_cross_encoder(tmp_path / kind, kind)
    scores = CrossEncoderScorer(str(folder), batch_size=7).score(PAIRS[:20])
    assert scores.shape == (20,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, compute_logits(folder, PAIRS[:20]), rtol=1e-4, atol=1e-5)
    assert scores.std() > 0.01


def test_a_folder_that_sentence_transformers_wrote_gives_the_same_logits_whatever_its_activation(folder, tmp_path):
    CrossEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "saved"))
    saved = json.loads((tmp_path / "saved" / "config_sentence_transformers.json").read_text())
    assert saved["activation_fn"].endswith("Sigmoid")
    np.testing.assert_allclose(
        CrossEncoderScorer(str(tmp_path / "saved")).score(PAIRS),
        CrossEncoderScorer(str(folder)).score(PAIRS),
        rtol=1e-5,
    )


def test_an_old_checkpoint_with_a_wrapped_name_and_a_stored_position_table_gives_the_same_logits(folder):
    expected = CrossEncoderScorer(str(folder)).score(PAIRS[:5])
    change_json(folder / "config.json", sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh")
    stored = {f"module.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    stored["module.bert.embeddings.position_ids"] = torch.arange(40)[None]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(WeightsWarning, match="begin with `module.`, which is removed"):
        scorer = CrossEncoderScorer(str(folder))
    assert np.array_equal(scorer.score(PAIRS[:5]), expected)


def test_long_pairs_are_truncated_at_max_length(folder):
    long_pair = (" ".join(tiny.WORDS[:30]), " ".join(tiny.WORDS[5:35]))
    for limit in (8, 16):
        scores = CrossEncoderScorer(str(folder), max_length=limit).score([long_pair])
        np.testing.assert_allclose(scores, compute_logits(folder, [long_pair], limit), rtol=1e-4, atol=1e-5)
    with pytest.raises(ZooError, match="but the model has 40 positions"):
        CrossEncoderScorer(str(folder), max_length=41).score([long_pair])


def test_opening_and_scoring_leaves_the_random_numbers_of_the_training_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CrossEncoderScorer(str(folder)).score(PAIRS[:3])
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_are_read_when_they_are_needed_and_can_be_released(folder):
    scorer = CrossEncoderScorer(str(folder))
    assert scorer._model is None
    first = scorer.score(PAIRS[:4])
    scorer.release()
    assert scorer._model is None
    assert np.array_equal(scorer.score(PAIRS[:4]), first)


def change_json(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_what_is_no_cross_encoder_is_refused_before_its_weights_are_read(folder, tmp_path):
    with pytest.raises(ZooError, match=r"is not a cross-encoder: config.json names BertModel"):
        CrossEncoderScorer(tiny.backbone(tmp_path / "encoder"))
    with pytest.raises(ZooError, match="gives 3 scores for a pair, but a teacher must give one"):
        CrossEncoderScorer(str(write_cross_encoder(tmp_path / "three", labels=3)))
    with pytest.raises(ZooError, match="there is no such folder"):
        CrossEncoderScorer(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("lost", ["classifier.weight", "bert.pooler", "bert.encoder.layer.1"])
def test_lost_weights_are_named_instead_of_drawn_at_random(lost, folder):
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(lost)}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=r"the weights lack .*(classifier|pooler|layer\.1)"):
        CrossEncoderScorer(str(folder))


def test_a_config_that_asks_for_more_layers_than_the_weights_hold_is_refused_at_once(folder):
    for name, count in (("num_hidden_layers", 5_000_000), ("hidden_size", 10**9)):
        original = (folder / "config.json").read_text()
        change_json(folder / "config.json", **{name: count})
        with pytest.raises(ArtefactError, match=f"{name}: {count} is beyond every model"):
            CrossEncoderScorer(str(folder))
        (folder / "config.json").write_text(original)


def test_pickles_and_code_of_the_model_are_refused_without_running_them(folder, tmp_path):
    mark = tmp_path / "executed"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    code = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    change_json(folder / "config.json", auto_map=code)
    with pytest.raises(ArtefactError, match="asks for code of its own"):
        CrossEncoderScorer(str(folder))
    assert not mark.exists()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: config[name] for name in config if name != "auto_map"}))
    CrossEncoderScorer(str(folder))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"has no model.safetensors"):
        CrossEncoderScorer(str(folder))


def test_the_fingerprint_is_that_of_the_files_and_the_limit(folder, tmp_path):
    fingerprint = CrossEncoderScorer(str(folder)).fingerprint
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert CrossEncoderScorer(str(copy), batch_size=3).fingerprint == fingerprint
    others = {
        CrossEncoderScorer(str(folder), max_length=12).fingerprint,
        CrossEncoderScorer(str(write_cross_encoder(tmp_path / "other", seed=1))).fingerprint,
    }
    change_json(copy / "tokenizer_config.json", model_max_length=9)
    others.add(CrossEncoderScorer(str(copy)).fingerprint)
    change_json(folder / "config.json", layer_norm_eps=1e-5)
    others.add(CrossEncoderScorer(str(folder)).fingerprint)
    assert len(others - {fingerprint}) == 4


class CountingScorer:
    """A teacher whose score is a function of the texts, which counts the pairs and can be interrupted or broken."""

    reference = "counting"

    def __init__(self, stop_after=None, fingerprint="f", broken=None):
        self.fingerprint, self.stop_after, self.broken, self.seen = fingerprint, stop_after, broken, []

    def score(self, pairs):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += pairs
        return np.array(
            [np.nan if pair == self.broken else len(pair[0]) + len(pair[1]) / 100 for pair in pairs], np.float32
        )


EXPECTED = np.array([len(a) + len(b) / 100 for a, b in PAIRS], np.float32)


def test_scores_are_computed_once_and_then_read_from_one_file(tmp_path):
    first, second = CountingScorer(), CountingScorer()
    finished = []
    scores = compute_scores(first, PAIRS, tmp_path, block_size=30, advance=finished.append)
    assert finished == [30, 30, 30, 10]
    assert np.array_equal(scores, EXPECTED)
    again = compute_scores(second, PAIRS, tmp_path, block_size=30)
    assert np.array_equal(again, EXPECTED)
    assert second.seen == []
    assert [path.name[:7] for path in tmp_path.iterdir()] == ["scores-"]
    assert compute_scores(CountingScorer(), PAIRS, tmp_path, block_size=7).tolist() == EXPECTED.tolist()
    assert len(list(tmp_path.iterdir())) == 1, "the size of a block is no part of the key"


def test_other_texts_or_another_teacher_have_their_own_scores(tmp_path):
    compute_scores(CountingScorer(), PAIRS, tmp_path)
    for pairs, fingerprint in (
        (PAIRS[:-1], "f"),
        (PAIRS[::-1], "f"),
        (PAIRS, "g"),
        ([(a + b[:1], b[1:]) for a, b in PAIRS], "f"),
        ([(b, a) for a, b in PAIRS], "f"),
    ):
        scorer = CountingScorer(fingerprint=fingerprint)
        compute_scores(scorer, pairs, tmp_path)
        assert scorer.seen
    assert len(list(tmp_path.iterdir())) == 6


def test_a_killed_run_goes_on_after_the_last_whole_block(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute_scores(CountingScorer(stop_after=40), PAIRS, tmp_path, block_size=20)
    assert not list(tmp_path.glob("scores-*.npy"))
    blocks = sorted(tmp_path.glob("scores-*.blocks/*.npy"))
    assert len(blocks) == 2
    blocks[1].write_bytes(blocks[1].read_bytes()[:-8])  # as a disk may leave it
    scorer = CountingScorer()
    assert np.array_equal(compute_scores(scorer, PAIRS, tmp_path, block_size=20), EXPECTED)
    assert set(scorer.seen) == set(PAIRS[20:])
    assert len(list(tmp_path.iterdir())) == 1
    path = next(tmp_path.glob("scores-*.npy"))
    path.write_bytes(path.read_bytes()[:-8])
    assert np.array_equal(compute_scores(CountingScorer(), PAIRS, tmp_path, block_size=20), EXPECTED)


class KilledScorer(CountingScorer):
    """A teacher whose process is killed in the third call."""

    def score(self, pairs):
        if len(self.seen) >= 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(pairs)


def test_a_process_that_is_killed_loses_one_block(tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=compute_scores, args=(KilledScorer(), PAIRS, tmp_path), kwargs={"block_size": 20}
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    scorer = CountingScorer()
    assert np.array_equal(compute_scores(scorer, PAIRS, tmp_path, block_size=20), EXPECTED)
    assert set(scorer.seen) == set(PAIRS[40:])
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"], "the partial file of the dead process is removed"


def test_equal_pairs_of_a_block_are_scored_once_and_no_pairs_cost_nothing(tmp_path):
    scorer = CountingScorer()
    scores = compute_scores(scorer, [*PAIRS[:3], *PAIRS[:3]], tmp_path)
    assert scorer.seen == PAIRS[:3]
    assert np.array_equal(scores, np.tile(EXPECTED[:3], 2))
    empty = CountingScorer()
    for _ in range(2):
        assert compute_scores(empty, [], tmp_path).shape == (0,)
    assert empty.seen == []


def test_a_score_that_is_not_finite_is_named_and_not_kept(tmp_path):
    with pytest.raises(ZooError, match=r"counting: gave nan for the pair .*its weights are probably corrupted"):
        compute_scores(CountingScorer(broken=PAIRS[50]), PAIRS, tmp_path, block_size=40)
    assert len(list(tmp_path.glob("scores-*.blocks/*.npy"))) == 1
    assert np.array_equal(compute_scores(CountingScorer(), PAIRS, tmp_path, block_size=40), EXPECTED)


def test_the_scores_of_a_cross_encoder_do_not_depend_on_the_blocks(folder, tmp_path):
    scorer = CrossEncoderScorer(str(folder))
    in_blocks = compute_scores(scorer, PAIRS, tmp_path / "a", block_size=9)
    np.testing.assert_allclose(in_blocks, scorer.score(PAIRS), rtol=1e-4, atol=1e-5)


class WordEncoder:
    """Vectors that count words; a query has one more component than a prompt would add."""

    def __init__(self):
        self.encoded = []

    def _encode(self, texts, factor):
        self.encoded.append(list(texts))
        return np.array([[text.split().count(word) * factor for word in tiny.WORDS] for text in texts], np.float32)

    def encode_query(self, inputs):
        return self._encode(inputs, 2)

    def encode_document(self, inputs):
        return self._encode(inputs, 5)


def test_an_encoder_scores_by_cosines_of_queries_and_documents_and_encodes_each_text_once():
    encoder = WordEncoder()
    pairs = [("dog cat", "dog"), ("dog cat", "cat dog"), ("red", "dog"), ("nothing", "dog")]
    scores = EncoderScorer(encoder, "words", "1").score(pairs)
    np.testing.assert_allclose(scores, [0.5**0.5, 1.0, 0.0, 0.0], atol=1e-6)
    assert scores.dtype == np.float32
    assert encoder.encoded == [["dog cat", "red", "nothing"], ["dog", "cat dog"]]


def test_an_encoder_and_a_cross_encoder_with_one_fingerprint_share_no_scores(folder):
    fingerprint = CrossEncoderScorer(str(folder)).fingerprint
    assert EncoderScorer(WordEncoder(), "words", fingerprint).fingerprint != fingerprint
    assert (
        EncoderScorer(WordEncoder(), "words", "1").fingerprint != EncoderScorer(WordEncoder(), "words", "2").fingerprint
    )


def test_rows_are_found_by_the_texts_of_a_pair():
    scores = RowsByText(PAIRS, EXPECTED)
    order = [5, 99, 0, 5]
    assert np.array_equal(scores.find([PAIRS[i] for i in order]), EXPECTED[order])
    assert scores.find([]).shape == (0,)
    for unknown in (("never", "seen"), (PAIRS[0][0] + PAIRS[0][1], ""), (PAIRS[0][1], PAIRS[0][0])):
        with pytest.raises(KeyError) as caught:
            scores.find([PAIRS[1], unknown])
        assert caught.value.args == (unknown,)
    with pytest.raises(KeyError):
        RowsByText([], np.empty(0, np.float32)).find(PAIRS[:1])


def test_vectors_of_texts_are_encoded_once_and_found_by_their_texts(tmp_path):
    encoder, texts = WordEncoder(), [f"{text} {i}" for i, text in enumerate(tiny.SENTENCES)]
    for _ in range(2):
        vectors = compute_vectors(encoder.encode_document, texts, tmp_path, "1", block_size=50)
    assert encoder.encoded == [texts[:50], texts[50:100], texts[100:]]
    assert vectors.shape == (len(texts), len(tiny.WORDS))
    assert vectors.dtype == np.float32
    rows = RowsByText(texts, vectors).find([texts[70], texts[2]])
    assert np.array_equal(rows, encoder.encode_document([texts[70], texts[2]]))
    assert rows.flags.writeable, "torch takes no array that is mapped for reading only"
    compute_vectors(encoder.encode_document, texts, tmp_path, "2")
    assert len(list(tmp_path.iterdir())) == 2


class Slices:
    """Pairs that are not in memory: only their number and slices can be read."""

    def __len__(self):
        return len(PAIRS)

    def __getitem__(self, place):
        assert isinstance(place, slice)
        assert place.stop - place.start <= 2048
        return PAIRS[place]


def test_only_slices_of_the_pairs_are_read(tmp_path):
    assert np.array_equal(compute_scores(CountingScorer(), Slices(), tmp_path, block_size=30), EXPECTED)
    again = CountingScorer()
    compute_scores(again, PAIRS, tmp_path)
    assert again.seen == []


def test_half_a_file_is_never_seen(tmp_path, monkeypatch):
    """Every file that is read was renamed to its name when it was whole."""
    targets = []
    replace_file = atomic_files.replace_file
    monkeypatch.setattr(atomic_files, "replace_file", lambda path: (targets.append(path.name), replace_file(path))[1])
    compute_scores(CountingScorer(), PAIRS, tmp_path, block_size=60)
    assert targets[1:] == ["000000000000-60.npy", "000000000060-60.npy"]
    assert targets[0] == next(tmp_path.iterdir()).name
