"""Layouts that people have: the split, the defect type and the mask of every file, and no file that is left over."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.datasets.inspection import examine
from blemish.datasets.layouts import DataSet, Sample, read_data_set
from blemish.errors import BlemishError

SIZE = (24, 16)  # width, height


def photograph(path: Path, *, size: tuple[int, int] = SIZE) -> Path:
    """Noise that no two paths share."""
    noise = np.random.default_rng(list(path.as_posix().encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, *, size: tuple[int, int] = SIZE, marks: bool = True, value: int = 255) -> Path:
    """A mask with a square in it, or none."""
    picture = Image.new("L", size)
    if marks:
        picture.paste(value, (2, 2, 8, 8))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


# A line is a photograph with its split, its type of defect where it has one, and its masks. "-" stands for none.
# Lines that begin with "m" are masks, those with "e" masks that mark nothing, and "x" is a file that is written below.
LAYOUTS = {
    "mvtec: crack, colour and NOK in train and test": """
        train/good/0.png
        train/crack/9.png        train  crack   ground_truth/crack/9_mask.png
        test/good/0.png          test
        test/colour/0.png        test   colour  ground_truth/colour/0_mask.png
        test/NOK/0.png           test   NOK     ground_truth/NOK/0.png
        m ground_truth/crack/9_mask.png
        m ground_truth/colour/0_mask.png
        m ground_truth/NOK/0.png
        """,
    "mvtec: mask folder by other words": """
        train/ok/0.png           train
        test/ok/1.png            test
        test/ko/000.png          test   ko      GT/ko/000_GT.png
        test/ko/001.png          test   ko      GT/ko/gt_001.png
        test/ko/002.png          test   ko      GT/ko/002-mask.png
        test/ko/003.png          test   ko      GT/ko/003_Label.bmp
        test/ko/004.png          test   ko      GT/ko/mask_004.png
        test/ko/005.png          test   ko      GT/ko/005 mask.png
        test/ko/img_006.png      test   ko      GT/ko/mask_006.png
        m GT/ko/000_GT.png
        m GT/ko/gt_001.png
        m GT/ko/002-mask.png
        m GT/ko/003_Label.bmp
        m GT/ko/mask_004.png
        m GT/ko/005 mask.png
        m GT/ko/mask_006.png
        """,
    "mvtec: validation and masks by numbers, as in LOCO": """
        train/good/000.png               train
        validation/good/000.png          train
        test/good/000.png                test
        test/logical_anomalies/000.png   test   logical_anomalies     ground_truth/logical_anomalies/000/000.png+001.png
        test/logical_anomalies/001.png   test   logical_anomalies     ground_truth/logical_anomalies/001/000.png
        test/structural_anomalies/000.png  test  structural_anomalies  ground_truth/structural_anomalies/000/000.png
        m ground_truth/logical_anomalies/000/000.png
        m ground_truth/logical_anomalies/000/001.png
        m ground_truth/logical_anomalies/001/000.png
        m ground_truth/structural_anomalies/000/000.png
        """,
    "mvtec: test_public with its masks inside, as in AD 2": """
        train/good/000_regular.png            train
        validation/good/000_regular.png       train
        test_public/good/000_regular.png      test
        test_public/bad/000_regular.png       test  bad  test_public/ground_truth/bad/000_regular_mask.png
        test_public/bad/001_overexposed.png   test  bad  test_public/ground_truth/bad/001_overexposed_mask.png
        m test_public/ground_truth/bad/000_regular_mask.png
        m test_public/ground_truth/bad/001_overexposed_mask.png
        """,
    "mvtec: validation with defects and no other test": """
        train/good/0.png  train
        val/good/1.png    test
        val/hole/2.png    test  hole
        """,
    "mvtec: valid, as Roboflow calls it": """
        train/good/1.png  train
        valid/good/2.png  train
        test/good/3.png   test
        test/bad/4.png    test  bad
        """,
    "nominal-anomalous: Real-IAD": """
        OK/S0001/a.jpg        *
        NG/AK/S0002/b_C1.jpg  *  AK  NG/AK/S0002/b_C1.png
        NG/BX/S0003/b_C1.jpg  *  BX  NG/BX/S0003/b_C1.png
        m NG/AK/S0002/b_C1.png
        m NG/BX/S0003/b_C1.png
        """,
    "nominal-anomalous: masks with the image's suffix, and with numbers": """
        good/1.png       *
        bad/001.jpg      *  bad  masks/001.jpg.png
        bad/img_002.jpg  *  bad  masks/img_002_1.png+img_002_2.png
        m masks/001.jpg.png
        m masks/img_002_1.png
        m masks/img_002_2.png
        """,
    "mvtec: in the folders of an archive": """
        parts-main/bottle/train/good/0.png   train
        parts-main/bottle/train/good/1.png   train
        parts-main/bottle/test/good/0.png    test
        parts-main/bottle/test/crack/0.png   test  crack  parts-main/bottle/ground_truth/crack/0_mask.png
        m parts-main/bottle/ground_truth/crack/0_mask.png
        """,
    "mvtec: in a folder with ok in its name": """
        ok_set/train/good/0.png  train
        ok_set/test/good/0.png   test
        ok_set/test/bad/0.png    test  bad
        """,
    "masks: DAGM in the folder of its class": """
        Class1/Train/0576.PNG  train
        Class1/Train/0577.PNG  train  defective  Class1/Train/Label/0577_label.PNG
        Class1/Test/0001.PNG   test
        m Class1/Train/Label/0577_label.PNG
        """,
    "nominal-anomalous: magnetic tiles in the folder of an archive": """
        tiles-master/MT_Free/Imgs/1.jpg   *
        e tiles-master/MT_Free/Imgs/1.png
        tiles-master/MT_Crack/Imgs/3.jpg  *  MT_Crack  tiles-master/MT_Crack/Imgs/3.png
        m tiles-master/MT_Crack/Imgs/3.png
        """,
    "nominal-anomalous: castings of 512 pixels": """
        casting_512x512/ok_front/0.jpeg   *
        casting_512x512/def_front/1.jpeg  *  def_front
        """,
    "nominal-anomalous: German": """
        i.O/0.png     *
        n.i.O./1.png  *  n.i.O.
        """,
    "nominal-anomalous: German words": """
        Gutteile/0.png       *
        Schlechtteile/1.png  *  Schlechtteile
        """,
    "nominal-anomalous: French": """
        conforme/0.png             *
        non conforme/rayure/1.png  *  rayure
        """,
    "nominal-anomalous: Chinese": """
        良品/0.png    *
        不良品/1.png  *  不良品
        """,
    "mvtec: folders with years": """
        train2017/good/0.png  train
        test2017/good/0.png   test
        test2017/bad/1.png    test  bad
        """,
    "mvtec: litter of a network drive": """
        train/good/0.png  train
        train/good/@eaDir/0.png
        test/good/0.png   test
        $RECYCLE.BIN/1.png
        __MACOSX/train/good/0.png
        """,
    "mvtec: masks by their side of the split": """
        train/good/1.png   train
        train/cut/2.png    train  cut     train/masks/cut/2.png
        test/good/1.png    test
        test/broken/1.png  test   broken  test/masks/broken/1.png
        m train/masks/cut/2.png
        m test/masks/broken/1.png
        """,
    "mvtec: good images directly in train": """
        train/0.png      train
        train/1.png      train
        test/good/2.png  test
        test/bad/3.png   test  bad
        """,
    "mvtec: images in folders called images": """
        train/good/images/0.png  train
        test/crack/images/0.png  test  crack  test/crack/masks/0.png
        test/good/images/0.png   test
        m test/crack/masks/0.png
        """,
    "mvtec: a type of defect that is called label": """
        train/good/0.png  train
        test/good/0.png   test
        test/label/0.png  test  label  ground_truth/label/0_mask.png
        test/label/1.png  test  label  ground_truth/label/1_mask.png
        m ground_truth/label/0_mask.png
        m ground_truth/label/1_mask.png
        """,
    "mvtec: folders that say both": """
        train_good/0.png  train
        test_good/1.png   test
        test_bad/2.png    test  bad  test_masks/2.png
        m test_masks/2.png
        """,
    "mvtec: one folder with ok among other words, as in the casting set": """
        train/ok_front/0.jpeg   train
        train/def_front/1.jpeg  train  def_front
        test/ok_front/2.jpeg    test
        test/def_front/3.jpeg   test   def_front
        """,
    "nominal-anomalous: any folder beside good, as in anomalib's toy set": """
        good/00.jpg    *
        good/01.jpg    *
        crack/00.jpg   *  crack   mask/crack/00.jpg
        crack/01.jpg   *  crack   mask/crack/01.jpg
        colour/00.jpg  *  colour  mask/colour/00.jpg
        m mask/crack/00.jpg
        m mask/crack/01.jpg
        m mask/colour/00.jpg
        """,
    "nominal-anomalous: pass and fail": """
        PASS/0.png         *
        Fail/scratch/0.png  *  scratch  Labels/scratch/0_label.png
        Fail/dent/0.png     *  dent     Labels/dent/0_label.png
        m Labels/scratch/0_label.png
        m Labels/dent/0_label.png
        """,
    "nominal-anomalous: good and bad, one folder of masks": """
        good/g0.png  *
        bad/b0.png   *  bad  Ground-Truth/b0_gt.png
        bad/b1.png   *  bad  Ground-Truth/b1_gt.png
        m Ground-Truth/b0_gt.png
        m Ground-Truth/b1_gt.png
        """,
    "nominal-anomalous: folders called dir": """
        normal_dir/n0.png     *
        abnormal_dir/a0.png   *  abnormal_dir  mask_dir/a0.png
        m mask_dir/a0.png
        """,
    "nominal-anomalous: anomalib's test images": """
        normal/n0.png       train
        normal/n5.png       train
        normal_test/t0.png  test
        abnormal/a0.png     test  abnormal
        abnormal/a1.png     test  abnormal
        """,
    "nominal-anomalous: VisA without its list": """
        Data/Images/Normal/0000.JPG   *
        Data/Images/Anomaly/000.JPG   *  Anomaly  Data/Masks/Anomaly/000.png
        m Data/Masks/Anomaly/000.png
        """,
    "nominal-anomalous: a folder of masks for each type": """
        ok/0.png           *
        crack/0.png        *  crack  crack_mask/0.png
        hole/0.png         *  hole   masks_hole/0.png
        m crack_mask/0.png
        m masks_hole/0.png
        """,
    "nominal-anomalous: AITEX": """
        NODefect_images/2306881/0000_000_01.png  *
        Defect_images/0001_002_00.png  *  Defect_images  Mask_images/0001_002_00_mask.png
        Defect_images/0044_019_04.png  *  Defect_images  Mask_images/0044_019_04_mask1.png+0044_019_04_mask2.png
        m Mask_images/0001_002_00_mask.png
        m Mask_images/0044_019_04_mask1.png
        m Mask_images/0044_019_04_mask2.png
        """,
    "nominal-anomalous: magnetic tiles as they ship": """
        MT_Free/Imgs/exp1_1.jpg      *
        e MT_Free/Imgs/exp1_1.png
        MT_Blowhole/Imgs/exp1_2.jpg  *  MT_Blowhole  MT_Blowhole/Imgs/exp1_2.png
        MT_Crack/Imgs/exp1_3.jpg     *  MT_Crack     MT_Crack/Imgs/exp1_3.png
        m MT_Blowhole/Imgs/exp1_2.png
        m MT_Crack/Imgs/exp1_3.png
        """,
    "masks: KolektorSDD": """
        kos01/Part0.jpg  *
        kos01/Part1.jpg  *  defective  kos01/Part1_label.bmp
        kos02/Part0.jpg  *  defective  kos02/Part0_label.bmp
        kos02/Part1.jpg  *
        e kos01/Part0_label.bmp
        m kos01/Part1_label.bmp
        m kos02/Part0_label.bmp
        e kos02/Part1_label.bmp
        """,
    "masks: KolektorSDD2": """
        train/10000.png  train
        train/10001.png  train  defective  train/10001_GT.png
        test/20000.png   test
        test/20001.png   test   defective  test/20001_GT.png
        e train/10000_GT.png
        m train/10001_GT.png
        e test/20000_GT.png
        m test/20001_GT.png
        """,
    "masks: DAGM": """
        Train/0576.PNG  train
        Train/0577.PNG  train  defective  Train/Label/0577_label.PNG
        Test/0001.PNG   test
        Test/0002.PNG   test   defective  Test/Label/0002_label.PNG
        m Train/Label/0577_label.PNG
        m Test/Label/0002_label.PNG
        """,
    "masks: images and masks": """
        images/0.png  *
        images/1.png  *  defective  masks/1.png
        images/2.png  *
        e masks/0.png
        m masks/1.png
        e masks/2.png
        """,
    "masks: images/train and masks/train": """
        train/images/0.png  train
        train/images/1.png  train  defective  train/masks/1.png
        test/images/0.png   test
        test/images/1.png   test   defective  test/masks/1.png
        e train/masks/0.png
        m train/masks/1.png
        e test/masks/0.png
        m test/masks/1.png
        """,
    "masks: beside images in one folder": """
        a.jpg  *
        b.jpg  *  defective  b_mask.png
        m b_mask.png
        """,
    "flat: images alone in a folder called images": """
        images/0.png  train
        images/1.png  train
        """,
    "flat: masks beside good images": """
        a.jpg  train
        b.jpg  train
        """,
    "one-vs-rest": """
        train/cat/0.png
        train/dog/0.png  train
        test/cat/1.png   test  cat
        test/dog/1.png   test
        """,
    "reference": """
        train/dog/normal/0.png  train
        test/dog/normal/0.png   test
        test/dog/crack/0.png    test  crack  test_maps/dog/crack/0.png
        m test_maps/dog/crack/0.png
        """,
}
LAYOUTS["mvtec: crack, colour and NOK in train and test"] = LAYOUTS[
    "mvtec: crack, colour and NOK in train and test"
].replace("train/good/0.png", "train/good/0.png         train", 1)


def rows_of(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in table.strip().splitlines()]


def build(root: Path, rows: list[list[str]]) -> dict[str, tuple[str, str | None, str | None]]:
    """Writes the files; the split, defect and masks of every photograph that is to be used."""
    wanted = {}
    for name, *rest in rows:
        if name[:2] in ("m ", "e "):
            mask(root / name[2:], marks=name.startswith("m"))
            continue
        photograph(root / name)
        if rest:
            split, defect, masks = (*rest, None, None)[:3]
            wanted[name] = (split, defect, masks)
    return wanted


def found_in(data: DataSet, root: Path) -> dict[str, tuple[str, str | None, str | None]]:
    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    def masks(sample: Sample) -> str | None:
        """The mask, and the names of others in its folder."""
        if sample.mask is None:
            return None
        first, *others = sample.mask if isinstance(sample.mask, tuple) else (sample.mask,)
        return "+".join([name(first), *(other.name for other in others)])

    return {
        name(sample.path): (
            split,
            sample.defect,
            masks(sample),
        )
        for split, samples in (("train", data.train), ("test", data.test))
        for sample in samples
    }


def agree(found: dict, wanted: dict) -> None:
    """The same, where a split "*" is either: a hash decides."""
    assert found.keys() == wanted.keys()
    for name, (split, *rest) in wanted.items():
        assert found[name][1:] == tuple(rest), name
        assert split in ("*", found[name][0]), name


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_file_is_used_as_it_is_meant(tmp_path, name):
    root = tmp_path / "parts"
    wanted = build(root, rows_of(LAYOUTS[name]))
    data = read_data_set(root, nominal_class="dog" if name in ("one-vs-rest", "reference") else None)
    agree(found_in(data, root), wanted)
    assert data.layout == name.split(":")[0]
    assert data.warnings == ()
    diagnosis = examine(data)
    assert [one.message for one in diagnosis.problems if one.severity != "note"] in ([], [first_error(data)])
    counts = diagnosis.as_json()
    assert counts["train"]["images"] + counts["test"]["images"] == len(wanted)
    assert sum(counts["masks"].values()) == sum(masks is not None for _, _, masks in wanted.values())


def first_error(data: DataSet) -> str:
    """These sets are small: some have too few good images to train."""
    nominal = sum(not sample.anomalous for sample in data.train)
    held = f"{nominal or 'no'} good training image{'s' * (nominal != 1)}"
    return f"{held}: training needs at least 2, better 20 or more"


def test_images_of_other_sensors_are_no_photographs(tmp_path):
    """MVTec 3D-AD has point clouds beside its photographs."""
    root = tmp_path / "parts"
    rows = """
        train/good/rgb/000.png  train
        train/good/xyz/000.tiff
        test/good/rgb/000.png   test
        test/good/xyz/000.tiff
        test/hole/rgb/000.png   test  hole  test/hole/gt/000.png
        test/hole/xyz/000.tiff
        m test/hole/gt/000.png
        """
    wanted = build(root, rows_of(rows))
    data = read_data_set(root)
    agree(found_in(data, root), wanted)
    [warning] = data.warnings
    assert "3 images not used: test/good/xyz/ (1), test/hole/xyz/ (1), train/good/xyz/ (1)" in warning.message
    assert {path.suffix for path in warning.paths} == {".tiff"}


def test_a_folder_around_the_data_set_changes_no_split(tmp_path):
    for i in range(20):
        photograph(tmp_path / f"archive/parts/good/{i}.png")
        photograph(tmp_path / f"archive/parts/bad/{i}.png")
    (tmp_path / "archive/licence.txt").write_text("free")
    outer, inner = read_data_set(tmp_path / "archive"), read_data_set(tmp_path / "archive/parts")
    assert (outer.train, outer.test, outer.root) == (inner.train, inner.test, inner.root)
    assert outer.notes[:2] == (
        "all images are in parts/, which is read in place of the folder around it",
        "1 other file beside parts/ ignored (not images)",
    )


def test_annotations_outside_of_the_one_folder_of_images_are_used(tmp_path):
    photograph(tmp_path / "frames/good/0.png")
    photograph(tmp_path / "frames/bad/1.png")
    record = {"id": 1, "file_name": "frames/bad/1.png", "width": SIZE[0], "height": SIZE[1]}
    box = {"image_id": 1, "bbox": [1, 2, 3, 4]}
    (tmp_path / "all.json").write_text(json.dumps({"images": [record], "annotations": [box]}))
    with pytest.raises(BlemishError, match=r"there is one in frames/; give .*frames$"):
        read_data_set(tmp_path)


def test_annotations_in_other_forms_are_no_silent_leftovers(tmp_path):
    photograph(tmp_path / "parts/good/0.png")
    photograph(tmp_path / "parts/bad/1.png")
    (tmp_path / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n1.png,1,5 6\n")
    [warning] = read_data_set(tmp_path).warnings
    assert warning.message.startswith("1 file with annotations in a form that is not read: train.csv; ")
