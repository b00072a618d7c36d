"""The table, its files, and the rate-distortion points."""

import json

import pytest
from helpers.evaluation_batches import batch_of, evaluate

from perceiver_io.evaluation import rate_distortion, table5
from perceiver_io.models.config import AutoencoderConfig


@pytest.fixture(scope='module')
def evaluation():
    return evaluate(batch_of((0, 51, 3277, 2), (1, 51, 3277, 0)))


@pytest.fixture(scope='module')
def row(evaluation):
    config = AutoencoderConfig(latents=392)
    return table5.results(config, evaluation, [('three.mp4', 'it is too short')], step=3)


def test_compression_is_the_papers():
    for latents, by_tokens, by_values in ((784, 88, 6.1), (392, 176, 12.2), (196, 352, 24.3)):
        config = AutoencoderConfig(latents=latents)
        assert config.compression == by_tokens
        assert table5.raw_compression(config) == pytest.approx(by_values, abs=0.06)
    audio = AutoencoderConfig(modalities=('audio',))
    assert audio.compression == 1920 * audio.token_channels / (784 * 512)
    assert table5.raw_compression(audio) == 30720 / (784 * 512)


def test_the_table_is_set_in_columns_and_marks_the_papers_row(row):
    assert row['skipped'] == 1 and row['step'] == 3
    assert row['skipped_clips'] == [{'name': 'three.mp4', 'reason': 'it is too short'}]
    lines = table5.text([row]).splitlines()
    [found] = [line for line in lines if line.startswith('this run')]
    assert found.split() == 'this run, 392 x 512 176.0x 12.2x 20.00 13.98 50.0% 100.0%'.split()
    [marked] = [line for line in lines if 'this size' in line]
    assert '25.33' in marked and found.index('13.98') == marked.index('24.27')
    assert len({len(line) for line in lines if line.startswith('---')}) == 1


def test_notes_explain_baselines_and_give_intervals(row):
    notes = table5.notes([row])
    assert '[13.98 to 13.98] dB, higher is better' in notes
    for baseline in ('mean colour', 'mean frame', 'silence', 'commonest class'):
        assert f'  {baseline}: ' in notes


def test_metrics_that_a_model_lacks_are_null(row):
    values = json.loads(table5.to_json(row))
    assert values['ssim'] is values['log_mel'] is None  # windows of 2 x 2 pixels and 8 samples
    assert values['video_psnr'] == pytest.approx(13.98, abs=0.01)


def test_several_models_make_several_rows(row):
    rows = [row | {'checkpoint': 'a'}, row | {'checkpoint': 'b', 'video_psnr': None}]
    lines = table5.markdown(rows).splitlines()
    assert [line.split(' | ')[0] for line in lines[2:4]] == ['| a, 392 x 512', '| b, 392 x 512']
    cells = [line.count(' | ') for line in lines if line.startswith('|')]
    assert len(set(cells)) == 1
    table = table5.csv_rows(rows)
    assert [line['row'] for line in table[:2]] == ['a, 392 x 512', 'b, 392 x 512']
    assert table[0]['video_psnr_low'] <= table[0]['video_psnr'] <= table[0]['video_psnr_high']
    assert table[1]['video_psnr'] is None
    assert len({tuple(line) for line in table}) == 1


def test_baselines_of_other_windows_have_rows_of_their_own(row):
    other = row | {'checkpoint': 'b', 'predictors': row['predictors'] | {'mean_frame': 7.25}}
    rows = [row | {'checkpoint': 'a'}, other]
    named = {line['row']: line['video_psnr'] for line in table5.csv_rows(rows)}
    assert named['baseline: mean frame, b, 392 x 512'] == 7.25
    assert named['baseline: mean frame, a, 392 x 512'] == row['predictors']['mean_frame']
    assert named['baseline: mean colour'] == row['predictors']['mean_colour']
    assert table5.notes(rows).count('mean frame: ') == 1


def test_rate_distortion_is_in_compressais_form(row):
    small = row | {'model': row['model'] | {'latents': 196}, 'video_psnr': 10.0}
    silent = row | {'video_psnr': None}
    values = json.loads(rate_distortion.to_json([row, small, silent]))
    assert set(values) == {'name', 'description', 'results'}
    # 196 x 512 float32 values for 16 x 224 x 224 pixels.
    assert values['results']['bpp'] == pytest.approx([4.0, 8.0])
    assert values['results']['psnr-rgb'] == pytest.approx([10.0, 13.98], abs=0.01)
    assert rate_distortion.to_json([silent]) is None


def test_numbers_that_are_not_finite_are_null_in_json():
    assert table5.to_json({'a': {'b': float('nan')}, 'c': [1, float('inf')]}).split() == (
        '{ "a": { "b": null }, "c": [ 1, null ] }'.split()
    )
