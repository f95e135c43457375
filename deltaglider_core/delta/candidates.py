"""Which keys may become deltas: a broad list of suffixes, extended by measurement.

A suffix belongs here when consecutive versions of such files usually share long runs of
bytes. What compresses its whole content as one stream does not: one changed byte changes
everything behind it (``.tar.gz``, ``.tgz``, ``.zst``, ``.xz``, ``.7z``, ``.bz2``). Neither do
images, audio and video with lossy or entropy coding (``.jpg``, ``.png``, ``.mp3``, ``.mp4``).
A suffix too many costs a wasted attempt, which the running ratio cuts short; a suffix too few
costs the whole saving.
"""

from __future__ import annotations

#: Files that hold their members one after the other, uncompressed or compressed one by one,
#: so that an unchanged member is an unchanged run of bytes.
_ARCHIVES = (".zip", ".tar", ".cpio", ".ar", ".a", ".lib", ".rar", ".cab", ".wim", ".asar")

#: Packages of programming languages and operating systems. Most are zip files; deb, rpm, msi
#: and gem hold several members of which some stay the same between releases.
_PACKAGES = (
    *(".jar", ".war", ".ear", ".aar", ".whl", ".egg", ".nupkg", ".snupkg", ".vsix", ".xpi"),
    *(".apk", ".aab", ".apex", ".ipa", ".appx", ".msix", ".crx", ".gem", ".conda"),
    *(".deb", ".udeb", ".rpm", ".msi", ".msp", ".pkg", ".snap", ".flatpak", ".appimage"),
)

#: Documents that are zip files inside.
_DOCUMENTS = (
    *(".docx", ".xlsx", ".pptx", ".docm", ".xlsm", ".pptm", ".xlsb", ".vsdx"),
    *(".odt", ".ods", ".odp", ".odg", ".epub", ".sketch"),
)

#: Disks, volumes and memory: mostly unchanged blocks at unchanged places.
_IMAGES_OF_DISKS = (
    *(".iso", ".img", ".dmg", ".raw", ".vmdk", ".vdi", ".vhd", ".vhdx", ".qcow", ".qcow2"),
    *(".ova", ".vmem", ".vmsn", ".squashfs", ".ext4", ".erofs"),
)

#: What is flashed onto devices.
_FIRMWARE = (".bin", ".rom", ".fw", ".hex", ".uf2", ".dfu", ".swu", ".cap")

#: Dumps and data files of databases: row after row, page after page.
_DATABASES = (
    *(".sql", ".dump", ".bak", ".backup", ".db", ".db3", ".sqlite", ".sqlite3", ".mdb", ".accdb"),
    *(".mdf", ".ldf", ".dbf", ".rdb", ".realm", ".ldif", ".bson"),
)

#: Checkpoints and arrays: fine-tuned models keep whole tensors.
_MODELS = (
    *(".safetensors", ".gguf", ".ggml", ".pt", ".pth", ".ckpt", ".onnx", ".tflite", ".pb"),
    *(".npy", ".npz", ".h5", ".hdf5", ".mat", ".mlmodel"),
)

#: Sound, textures, models and scenes that are stored uncompressed.
_MEDIA = (
    *(".wav", ".aiff", ".aif", ".bmp", ".tga", ".dds", ".tif", ".tiff", ".psd", ".psb"),
    *(".dng", ".xcf", ".fbx", ".stl", ".obj", ".glb", ".blend", ".uasset", ".umap", ".pak"),
)

#: Programs, libraries and what debuggers need for them.
_BINARIES = (
    *(".exe", ".dll", ".so", ".dylib", ".pdb", ".sys", ".elf", ".axf", ".wasm", ".dex", ".debug"),
    *(".o", ".node", ".sym"),
)

#: Tables in bulk text, exported again and again. Not ``.json``, ``.xml``, ``.txt`` or ``.log``:
#: mostly small files with nothing in common, often read by browsers.
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".geojson")

#: The default of ``advanced.delta_suffixes``: lower case, sorted, without duplicates.
DEFAULT_SUFFIXES: tuple[str, ...] = tuple(
    sorted(
        {
            *_ARCHIVES,
            *_PACKAGES,
            *_DOCUMENTS,
            *_IMAGES_OF_DISKS,
            *_FIRMWARE,
            *_DATABASES,
            *_MODELS,
            *_MEDIA,
            *_BINARIES,
            *_TABLES,
        }
    )
)


def has_suffix(key: str, suffixes: tuple[str, ...]) -> bool:
    """Whether the file name at the end of ``key`` has one of the lower-case ``suffixes``."""
    return key.rpartition("/")[2].lower().endswith(suffixes)
