"""SQLite with every byte at rest sealed: a VFS that stands between APSW and the disk.

    page 1      salt 16 | ciphertext of bytes 16 .. P-32         | tag 16 | nonce 12 | generation 1 | session 3
    page n      ciphertext of bytes 0 .. P-32                    | tag 16 | nonce 12 | generation 1 | session 3
    WAL header  32 bytes in the clear: page size, counter, random salts; no content
    WAL frame   ciphertext of (header 24 + page bytes 0 .. P-32) | tag 16 | nonce 12 | generation 1 | session 3
    all else    in memory, sealed on the disk where it outgrows that (`temporary.py`)

A page is bound to its number and the file's salt, a frame to its offset and the salt. A frame is as long as
SQLite's own: the reserved bytes of its page pay for tag and nonce. Its header lies inside the seal because it
holds an unkeyed checksum of the plain page, with which a guess at the page could be confirmed from the disk.
`docs/format.md` says the same byte by byte.
"""
