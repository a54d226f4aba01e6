package layer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// PathHash stands for a path. The zero value is the root; a path's hash is made
// from its folder's, so that the hashes of all folders on the way come for
// nothing.
//
// It is a cut-off SHA-256: two names of one image meet by chance once in 2^64.
// Whoever writes an image could find two that meet; he could as well leave out
// what we look for.
type PathHash [16]byte

// Child returns the hash of name inside the folder.
func (h PathHash) Child(name string) PathHash {
	var b [len(h) + 255]byte // a name is at most 255 bytes (NAME_MAX)
	n := copy(b[:], h[:])
	n += copy(b[n:], name)
	sum := sha256.Sum256(b[:n])
	return PathHash(sum[:])
}

// Key is what sets hold: 64 bits.
func (h PathHash) Key() uint64 { return binary.LittleEndian.Uint64(h[:]) }

// HashPath returns the hash of a clean path relative to the root.
func HashPath(path string) PathHash {
	var h PathHash
	if path == "" {
		return h
	}
	for name := range strings.SplitSeq(path, "/") {
		h = h.Child(name)
	}
	return h
}

// Set is a sorted set of the keys of paths: which names a layer has, without
// the names.
type Set []uint64

// Has says whether the path with that key is in the set.
func (s Set) Has(key uint64) bool {
	_, ok := slices.BinarySearch(s, key)
	return ok
}

// keys gathers a Set. Whatever is added again and again costs no memory.
type keys struct {
	list    []uint64
	compact int // length after which it is worth looking for duplicates
}

// fewKeys is too short a list to look for duplicates.
const fewKeys = 1 << 16

func (k *keys) add(key uint64) {
	k.list = append(k.list, key)
	if len(k.list) < max(k.compact, fewKeys) {
		return
	}
	k.sort()
	k.compact = 2 * len(k.list)
}

func (k *keys) sort() {
	slices.Sort(k.list)
	k.list = slices.Compact(k.list)
}

// set returns what was gathered, in its own memory and no more.
func (k *keys) set() Set {
	k.sort()
	s := make(Set, len(k.list))
	copy(s, k.list)
	k.list = nil
	return s
}

// without returns the keys of s that other doesn't have.
func (s Set) without(other Set) Set {
	i := 0
	return slices.DeleteFunc(s, func(key uint64) bool {
		for i < len(other) && other[i] < key {
			i++
		}
		return i < len(other) && other[i] == key
	})
}

// position is a folder with the hashes of all folders on the way to it. Going
// to a neighbouring folder costs only the names that differ.
type position struct {
	path  string
	steps []step
}

type step struct {
	end  int // of the name in path
	hash PathHash
}

// move goes to a folder and calls seen with the key of every folder on the way
// that was not on the way before.
func (p *position) move(folder string, seen func(PathHash)) {
	common := commonFolder(p.path, folder)
	keep := 0
	for keep < len(p.steps) && p.steps[keep].end <= common {
		keep++
	}
	p.steps = p.steps[:keep]
	p.path = folder
	start := 0
	if keep > 0 {
		start = p.steps[keep-1].end + 1
	}
	for start < len(folder) {
		end := len(folder)
		if i := strings.IndexByte(folder[start:], '/'); i >= 0 {
			end = start + i
		}
		h := p.hash().Child(folder[start:end])
		p.steps = append(p.steps, step{end, h})
		seen(h)
		start = end + 1
	}
}

func (p *position) hash() PathHash {
	if len(p.steps) == 0 {
		return PathHash{}
	}
	return p.steps[len(p.steps)-1].hash
}

// commonFolder returns the length of the longest folder that a and b share.
func commonFolder(a, b string) int {
	n, i := 0, 0
	for ; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '/' {
			n = i
		}
	}
	if (i == len(a) || a[i] == '/') && (i == len(b) || b[i] == '/') {
		n = i
	}
	return n
}

// MarshalBinary writes the set for keeping: eight bytes a key.
func (s Set) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, 8*len(s))
	for _, key := range s {
		b = binary.LittleEndian.AppendUint64(b, key)
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (s *Set) UnmarshalBinary(b []byte) error {
	if len(b)%8 != 0 {
		return fmt.Errorf("set of %d bytes", len(b))
	}
	*s = make(Set, len(b)/8)
	for i := range *s {
		(*s)[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return nil
}
