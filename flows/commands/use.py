"""Commands that use models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from components.errors import UserError
from components.paths import output_file, output_folder, user_path
from flows.commands.base import USE, Device, app


@app.command(group=USE)
def generate(
    model: str,
    /,
    *,
    count: Annotated[int | None, Parameter(help="Number of sequences.")] = None,
    seed: Annotated[int, Parameter(help="Random seed. The same seed gives the same output.")] = 0,
    temperature: Annotated[
        float | None,
        Parameter(help="Sampling temperature: below 1 more predictable, above 1 more varied, 0 always the likeliest."),
    ] = None,
    top_p: Annotated[
        float | None, Parameter(help="Sample from the smallest set of tokens with this total probability.")
    ] = None,
    top_k: Annotated[int | None, Parameter(help="Sample from the k likeliest tokens; 0 = all.")] = None,
    prompt: Annotated[
        str | None,
        Parameter(help='Text to continue; for handwriting the text to write; for chorales a metre such as "3/4".'),
    ] = None,
    max_length: Annotated[int | None, Parameter(help="Maximum number of tokens or points.")] = None,
    bias: Annotated[
        float | None,
        Parameter(help="For handwriting: 0 = as varied as the data; higher = neater and more uniform."),
    ] = None,
    chords: Annotated[
        str | None, Parameter(help='Chords to play over: "Dm7 G7 | Cmaj7 | %" or a form, "blues in F".')
    ] = None,
    choruses: Annotated[int | None, Parameter(help="How many times to play through the chords.")] = None,
    bars: Annotated[
        int | None, Parameter(help="Length in bars, for models that plan the length of a piece, such as chorales.")
    ] = None,
    seconds: Annotated[
        int | None, Parameter(help="Length in seconds, for models that plan the length of a performance.")
    ] = None,
    form: Annotated[
        str | None,
        Parameter(help='Form, e.g. "AABA": sections with the same letter are alike. Needs a model with model.copy.'),
    ] = None,
    form_strength: Annotated[
        float | None,
        Parameter(help="How strongly repeated sections are favoured, in nats; 0 = not at all."),
    ] = None,
    pattern_strength: Annotated[
        float | None,
        Parameter(help="How strongly the soloist's own patterns are favoured, in nats; 0 = not at all."),
    ] = None,
    tempo_bpm: Annotated[float | None, Parameter(help="Tempo in quarter notes per minute.")] = None,
    band: Annotated[
        str | None, Parameter(help="Rule-based bass and piano accompaniment: swing, straight, folk or none.")
    ] = None,
    constraint: Annotated[
        list[str] | None, Parameter(negative="", help='A constraint: "key F major", "range 55-84". Repeatable.')
    ] = None,
    melody: Annotated[
        Path | None, Parameter(help="Music file with a melody; a chorale model writes the lower voices.")
    ] = None,
    start: Annotated[Path | None, Parameter(help="Music file to continue.")] = None,
    keep: Annotated[Path | None, Parameter(help="Music file to rewrite a part of; the rest is kept.")] = None,
    rewrite: Annotated[
        str | None,
        Parameter(help='What to rewrite: "bars 5-8", "bars 5-8, alto tenor", "bar 3; beats 33-36, bass".'),
    ] = None,
    particles: Annotated[
        int | None, Parameter(help="Number of candidates to choose the rewritten part from; more take longer.")
    ] = None,
    soundfont: Annotated[
        Path | None, Parameter(help="SoundFont (.sf2) to play the music with instead of the built-in sound.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Folder for the files (default: a new one under generated/).")] = None,
) -> None:
    """Generate sequences with a registered model.

    MODEL is NAME (its champion), NAME@champion, NAME@3 or NAME@latest. The same seed gives the same output. Each file
    records how it was made; `reprise replay FILE` regenerates it.

    Example: `reprise generate chorales@champion --count 4 --seed 7 --temperature 0.9 --top-p 0.95`
    """
    given = {
        "count": count,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "prompt": prompt,
        "max_length": max_length,
        "bias": bias,
        "chords": chords,
        "choruses": choruses,
        "bars": bars,
        "seconds": seconds,
        "form": form,
        "form_strength": form_strength,
        "pattern_strength": pattern_strength,
        "tempo_bpm": tempo_bpm,
        "band": band,
        "constraints": tuple(constraint) if constraint else None,
        "particles": particles,
    }
    options = {"--melody": melody, "--start": start, "--soundfont": soundfont, "--keep": keep}
    files = [path and str(user_path(path, where=option)) for option, path in options.items()]
    folder = str(output_folder(out, where="--out")) if out else None
    from components.runs.generate import generate_files

    overrides = {name: value for name, value in given.items() if value is not None}
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
    text: Annotated[list[str] | None, Parameter(negative="", help="A text to predict for. Repeatable.")] = None,
    file: Annotated[
        Path | None,
        Parameter(
            help="A file to predict for, row by row: table, lines, FASTA, .ts, .npy (frames or pictures), videos, WAV; "
            "or a time series to continue."
        ),
    ] = None,
    column: Annotated[str | None, Parameter(help="Name of the column that holds the texts.")] = None,
    out: Annotated[
        Path | None, Parameter(help="The CSV file to write, with --explain the folder (default: under generated/).")
    ] = None,
    explain: Annotated[
        bool,
        Parameter(
            negative="",
            help="Explain the predictions: all choices with scores, contributions of each token or step, attention.",
        ),
    ] = False,
    best: Annotated[
        int | None,
        Parameter(help="With --explain: number of choices listed (default: all labels, or the whole beam)."),
    ] = None,
    states: Annotated[
        Path | None, Parameter(help="Write embeddings and hidden states to this .npz file instead of predicting.")
    ] = None,
    language_model: Annotated[
        str | None, Parameter(help="A registered character model; improves the spelling of a speech model.")
    ] = None,
    set: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Override how the file is read: data.KEY=VALUE, e.g. data.coding=latin-1. Repeatable.",
        ),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Predict with a registered model: a label and its probability, numbers, tags, or a text.

    A file is read like the model's training data. The result is a CSV file of its rows and their predictions. With
    --explain it is a folder: tables, pictures, for texts also a page with every token coloured by its contribution.

    Example: `reprise predict sentiment --text "a gripping , moving film"` · `reprise predict dna --file new.fasta` ·
    `reprise predict sentiment --text "a mess" --explain`
    """
    source = str(user_path(file, where="--file")) if file else None
    texts, settings = text or [], set or []
    if best is not None and not explain:
        raise UserError("only works with --explain", where="--best", hint="add --explain")
    if states:
        if explain or out or language_model:
            what = "can't be used together with --explain, --out or --language-model"
            raise UserError(what, where="--states", hint="use two commands")
        from components.runs.explain import states as write_states

        lines = write_states(model, str(output_file(states, where="--states")), texts, source, column, settings, device)
    elif explain:
        folder = str(output_folder(out, where="--out")) if out else None
        from components.runs.explain import explain as explain_answers

        lines = explain_answers(model, texts, source, column, folder, best, language_model, settings, device)
    else:
        target = str(output_file(out, where="--out")) if out else None
        from components.runs.predict import predict as answers

        lines = answers(model, texts, source, column, target, language_model, settings, device)
    for line in lines:
        print(line)


@app.command(group=USE)
def score(
    model: str,
    /,
    *,
    text: Annotated[list[str] | None, Parameter(negative="", help="A text to score. Repeatable.")] = None,
    file: Annotated[Path | None, Parameter(help="A file or folder, read as the model's own data.")] = None,
    out: Annotated[
        Path | None,
        Parameter(help="The CSV file to write, with a picture next to it (default: under generated/)."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Say how likely a language model finds a text or a piece: nats, bits and perplexity, in all and for each token.

    Example: `reprise score shakespeare-chars --text "To be, or not"` · `reprise score chorales --file mine.musicxml`
    """
    source = str(user_path(file, where="--file")) if file else None
    target = str(output_file(out, where="--out")) if out else None
    from components.runs.score import score_files

    for path in score_files(model, text or [], source, target, device):
        print(path)


@app.command(group=USE)
def replay(
    file: Path,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Folder for the new files (default: replayed/ next to the file).")
    ] = None,
    soundfont: Annotated[
        Path | None, Parameter(help="The SoundFont named in the record, if the file was made with one.")
    ] = None,
) -> None:
    """Regenerate a file from the record inside it, and check that the two are identical byte for byte.

    Example: `reprise replay generated/chorales-v1-seed0-3fa4c1/chorales-1.mid`
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
