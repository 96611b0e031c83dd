"""Commands that use models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from components.errors import UserError
from components.paths import output_file, output_folder, user_path
from flows.commands.base import USE, Device, app


@dataclass
class Sampling:
    """Settings of generation. Those that aren't given are the model's own.

    Args:
        count: Number of sequences.
        temperature: Sampling temperature: below 1 more predictable, above 1 more varied, 0 always the likeliest.
        top_p: Sample from the smallest set of tokens with this total probability.
        top_k: Sample from the k likeliest tokens; 0 = all.
        prompt: Text to continue; for handwriting the text to write; for chorales a metre such as "3/4".
        max_length: Maximum number of tokens or points.
        bias: For handwriting: 0 = as varied as the data; higher = neater and more uniform.
        chords: Chords to play over: "Dm7 G7 | Cmaj7 | %" or a form, "blues in F".
        choruses: How many times to play through the chords.
        bars: Length in bars, for models that plan the length of a piece, such as chorales.
        seconds: Length in seconds, for models that plan the length of a performance.
        form: Form, e.g. "AABA": sections with the same letter are alike. Needs a model with model.copy.
        form_strength: How strongly repeated sections are favoured, in nats; 0 = not at all.
        pattern_strength: How strongly the soloist's own patterns are favoured, in nats; 0 = not at all.
        tempo_bpm: Tempo in quarter notes per minute.
        band: Rule-based bass and piano accompaniment: swing, straight, folk or none.
        constraints: A constraint: "key F major", "range 55-84". Repeatable.
        particles: Number of candidates to choose the rewritten part from; more take longer.
    """

    count: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    prompt: str | None = None
    max_length: int | None = None
    bias: float | None = None
    chords: str | None = None
    choruses: int | None = None
    bars: int | None = None
    seconds: int | None = None
    form: str | None = None
    form_strength: float | None = None
    pattern_strength: float | None = None
    tempo_bpm: float | None = None
    band: str | None = None
    constraints: Annotated[list[str] | None, Parameter(name="--constraint")] = None
    particles: int | None = None


@app.command(group=USE)
def generate(
    model: str,
    /,
    *,
    settings: Annotated[Sampling | None, Parameter(name="*")] = None,
    seed: int = 0,
    melody: Path | None = None,
    start: Path | None = None,
    keep: Path | None = None,
    rewrite: str | None = None,
    soundfont: Path | None = None,
    out: Path | None = None,
) -> None:
    """Generate sequences with a registered model.

    MODEL is NAME (its champion), NAME@champion, NAME@3 or NAME@latest. The same seed gives the same output. Each file
    records how it was made; `reprise replay FILE` regenerates it.

    Example: `reprise generate chorales@champion --count 4 --seed 7 --temperature 0.9 --top-p 0.95`

    Args:
        seed: Random seed. The same seed gives the same output.
        melody: Music file with a melody; a chorale model writes the lower voices.
        start: Music file to continue.
        keep: Music file to rewrite a part of; the rest is kept.
        rewrite: What to rewrite: "bars 5-8", "bars 5-8, alto tenor", "bar 3; beats 33-36, bass".
        soundfont: SoundFont (.sf2) to play the music with instead of the built-in sound.
        out: Folder for the files (default: a new one under generated/).
    """
    options = {"--melody": melody, "--start": start, "--soundfont": soundfont, "--keep": keep}
    files = [path and str(user_path(path, where=option)) for option, path in options.items()]
    folder = str(output_folder(out, where="--out")) if out else None
    from components.runs.generate import generate_files

    overrides = {name: value for name, value in asdict(settings or Sampling()).items() if value is not None}
    paths = generate_files(model, overrides, seed, folder, *files, rewrite)
    for path in paths:
        print(path)
    for path in paths:
        if path.endswith(".txt"):
            from components.render.record import without_record

            print(without_record(Path(path).read_text(encoding="utf-8")), end="")


@app.command(group=USE)
def predict(
    model: str,
    /,
    *,
    text: list[str] | None = None,
    file: Path | None = None,
    column: str | None = None,
    out: Path | None = None,
    explain: bool = False,
    best: int | None = None,
    states: Path | None = None,
    language_model: str | None = None,
    set: list[str] | None = None,
    device: Device = "cpu",
) -> None:
    """Predict with a registered model: a label and its probability, numbers, tags, or a text.

    A file is read like the model's training data. The result is a CSV file of its rows and their predictions. With
    --explain it is a folder: tables, pictures, for texts also a page with every token coloured by its contribution.

    Example: `reprise predict sentiment --text "a gripping , moving film"` · `reprise predict dna --file new.fasta` ·
    `reprise predict sentiment --text "a mess" --explain`

    Args:
        text: A text to predict for. Repeatable.
        file: A file to predict for, row by row: table, lines, FASTA, .ts, .npy (frames or pictures), videos, WAV; or a
            time series to continue.
        column: Name of the column that holds the texts.
        out: The CSV file to write, with --explain the folder (default: under generated/).
        explain: Explain the predictions: all choices with scores, contributions of each token or step, attention.
        best: With --explain: number of choices listed (default: all labels, or the whole beam).
        states: Write embeddings and hidden states to this .npz file instead of predicting.
        language_model: A registered character model; improves the spelling of a speech model.
        set: Override how the file is read: data.KEY=VALUE, e.g. data.coding=latin-1. Repeatable.
    """
    source = str(user_path(file, where="--file")) if file else None
    if best is not None and not explain:
        raise UserError("only works with --explain", where="--best", hint="add --explain")
    if states and (explain or out or language_model):
        what = "can't be used together with --explain, --out or --language-model"
        raise UserError(what, where="--states", hint="use two commands")
    target = str((output_folder if explain else output_file)(out, where="--out")) if out else None
    kept = str(output_file(states, where="--states")) if states else ""
    from components.runs.predict import Request

    request = Request(model, text or [], source, column, language_model, set or [], device)
    if states:
        from components.runs.explain import states as write_states

        lines = write_states(request, kept)
    elif explain:
        from components.runs.explain import explain as explain_answers

        lines = explain_answers(request, target, best)
    else:
        from components.runs.predict import predict as answers

        lines = answers(request, target)
    for line in lines:
        print(line)


@app.command(group=USE)
def score(
    model: str,
    /,
    *,
    text: list[str] | None = None,
    file: Path | None = None,
    out: Path | None = None,
    device: Device = "cpu",
) -> None:
    """Say how likely a language model finds a text or a piece: nats, bits and perplexity, in all and for each token.

    Example: `reprise score shakespeare-chars --text "To be, or not"` · `reprise score chorales --file mine.musicxml`

    Args:
        text: A text to score. Repeatable.
        file: A file or folder, read as the model's own data.
        out: The CSV file to write, with a picture next to it (default: under generated/).
    """
    source = str(user_path(file, where="--file")) if file else None
    target = str(output_file(out, where="--out")) if out else None
    from components.runs.score import score_files

    for path in score_files(model, text or [], source, target, device):
        print(path)


@app.command(group=USE)
def replay(file: Path, /, *, out: Path | None = None, soundfont: Path | None = None) -> None:
    """Regenerate a file from the record inside it, and check that the two are identical byte for byte.

    Example: `reprise replay generated/chorales-v1-seed0-3fa4c1/chorales-1.mid`

    Args:
        out: Folder for the new files (default: replayed/ next to the file).
        soundfont: The SoundFont named in the record, if the file was made with one.
    """
    from components.runs.generate import replay as again

    source = user_path(file, where="replay")
    folder = output_folder(out, where="--out") if out else None
    paths, same = again(source, folder, soundfont and user_path(soundfont, where="--soundfont"))
    for path in paths:
        print(path)
    print(f"{file.name} is {'identical, byte for byte' if same else 'DIFFERENT from the regenerated file'}")
    if not same:
        raise SystemExit(1)


@app.command(group=USE)
def down() -> None:
    """Stop the Prefect server that Reprise keeps running between commands.

    Example: `reprise down`
    """
    from components.runs.places import places
    from flows.server import Server

    print(
        "stopped the Prefect server"
        if Server(places().prefect).stop()
        else "no Prefect server started by Reprise is running"
    )
