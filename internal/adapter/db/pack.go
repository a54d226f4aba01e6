package db

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/inventory"
)

// An inventory is kept compressed with zstd. It begins with packedForm; what
// begins otherwise is JSON as earlier builds wrote it. Its packages are not JSON:
// an inventory is read whenever there is something to compare it with, and
// reading them as JSON took longer than comparing them. After the form come all
// but the packages as JSON, a table of texts, and the packages, which name texts
// by their numbers in the table; numbers are written as in package binary.
const packedForm = 1

// maxPacked bounds what one packed row may hold when it is opened: a damaged
// file must not take the memory that it claims to need.
const maxPacked = 512 << 20

// packInventory returns an inventory as it is kept.
func packInventory(inv inventory.Inventory) ([]byte, error) {
	p := packer{numbers: map[string]uint64{}}
	p.length(len(inv.Packages), inv.Packages == nil)
	for i := range inv.Packages {
		if err := p.pkg(&inv.Packages[i]); err != nil {
			return nil, fmt.Errorf("package %s: %w", inv.Packages[i].Name, err)
		}
	}
	inv.Packages = nil
	rest, err := json.Marshal(inv)
	if err != nil {
		return nil, err
	}
	plain := append([]byte{packedForm}, binary.AppendUvarint(nil, uint64(len(rest)))...)
	plain = append(plain, rest...)
	plain = binary.AppendUvarint(plain, uint64(len(p.texts)))
	for _, s := range p.texts {
		plain = binary.AppendUvarint(plain, uint64(len(s)))
	}
	for _, s := range p.texts {
		plain = append(plain, s...)
	}
	plain = append(plain, p.packages...)
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	return e.EncodeAll(plain, nil), e.Close()
}

// packer writes packages.
type packer struct {
	numbers  map[string]uint64
	texts    []string
	packages []byte
}

func (p *packer) number(n uint64) { p.packages = binary.AppendUvarint(p.packages, n) }

func (p *packer) text(s string) {
	n, ok := p.numbers[s]
	if !ok {
		n = uint64(len(p.texts))
		p.numbers[s] = n
		p.texts = append(p.texts, s)
	}
	p.number(n)
}

// length keeps no list and an empty one apart.
func (p *packer) length(n int, none bool) { p.packages = appendCount(p.packages, n, none) }

func (p *packer) list(all []string) {
	p.length(len(all), all == nil)
	for _, s := range all {
		p.text(s)
	}
}

// Bits of a package and of a place.
const (
	packedDev = 1 << iota
	packedIndirect
	packedWritten
)

// pkg writes one package; unpacker.pkg reads it.
func (p *packer) pkg(v *inventory.Package) error {
	for _, s := range [...]string{
		v.Type, v.Namespace, v.Name, v.Version, v.Arch, v.Ecosystem, v.Source.Name, v.Source.Version, v.Repository, v.OwnedBy, string(v.Found),
	} {
		p.text(s)
	}
	p.list(v.Licenses)
	p.list(v.Files)
	p.list(v.Digests)
	p.length(len(v.Places), v.Places == nil)
	for _, at := range v.Places {
		p.text(at.Path)
		p.packages = binary.AppendVarint(p.packages, int64(at.Layer))
		p.number(bit(at.Written, packedWritten))
	}
	p.number(bit(v.Dev, packedDev) | bit(v.Indirect, packedIndirect))
	if v.Published == nil {
		p.text("")
		return nil
	}
	at, err := v.Published.MarshalText()
	p.text(string(at))
	return err
}

func bit(is bool, b uint64) uint64 {
	if is {
		return b
	}
	return 0
}

// unpackInventory reads what packInventory wrote; an error says that the file at
// path is damaged.
func unpackInventory(path string, packed []byte) (inv inventory.Inventory, err error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPacked))
	if err != nil {
		return inv, fmt.Errorf("ready a decoder: %w", err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(packed, nil)
	if err == nil {
		inv, err = parseInventory(plain)
	}
	if err != nil {
		return inventory.Inventory{}, corrupt(path, fmt.Errorf("decode an inventory: %w", err))
	}
	return inv, nil
}

func parseInventory(plain []byte) (inv inventory.Inventory, err error) {
	if len(plain) == 0 || plain[0] != packedForm {
		err = json.Unmarshal(plain, &inv)
		return inv, err
	}
	u := unpacker{payloadReader: payloadReader{b: plain[1:]}}
	if err := json.Unmarshal(u.bytes(u.uvarint()), &inv); err != nil {
		return inv, err
	}
	u.table()
	const (
		least          = 16     // bytes of a package without anything
		enoughPackages = 10_000 // for most images; what says to have more must bring them
	)
	n, none := u.length(least)
	if !none {
		inv.Packages = make([]inventory.Package, 0, min(n, enoughPackages))
	}
	for i := range n {
		inv.Packages = append(inv.Packages, inventory.Package{})
		if err := u.pkg(&inv.Packages[i]); err != nil {
			return inv, fmt.Errorf("package %d: %w", i+1, err)
		}
	}
	if u.bad || len(u.b) > 0 {
		return inv, errCut
	}
	return inv, nil
}

var errCut = errors.New("it does not end where it should")

// unpacker reads packages, whose texts stand in a table before them.
type unpacker struct {
	payloadReader
	texts []string
}

func (u *unpacker) bytes(n uint64) []byte {
	if n > uint64(len(u.b)) {
		u.fail()
		return nil
	}
	b := u.b[:n]
	u.b = u.b[n:]
	return b
}

// length returns how many things follow, each of least bytes or more.
func (u *unpacker) length(least int) (n int, none bool) {
	have := u.uvarint()
	if have == 0 {
		return 0, true
	}
	if have-1 > uint64(len(u.b)/least) {
		u.fail()
		return 0, true
	}
	return int(have - 1), false
}

// table reads the texts. They share one string.
func (u *unpacker) table() {
	n := u.uvarint()
	if n > uint64(len(u.b)) {
		u.fail()
		return
	}
	lengths, sum := make([]uint64, n), uint64(0)
	for i := range lengths {
		lengths[i] = u.uvarint()
		if sum += lengths[i]; lengths[i] > maxPacked || sum > maxPacked {
			u.fail()
			return
		}
	}
	all := string(u.bytes(sum))
	if u.bad {
		return
	}
	u.texts = make([]string, n)
	for i, length := range lengths {
		u.texts[i], all = all[:length], all[length:]
	}
}

func (u *unpacker) text() string {
	n := u.uvarint()
	if n >= uint64(len(u.texts)) {
		u.fail()
		return ""
	}
	return u.texts[n]
}

func (u *unpacker) list() []string {
	n, none := u.length(1)
	if none {
		return nil
	}
	all := make([]string, n)
	for i := range all {
		all[i] = u.text()
	}
	return all
}

func (u *unpacker) pkg(v *inventory.Package) error {
	for _, s := range [...]*string{
		&v.Type, &v.Namespace, &v.Name, &v.Version, &v.Arch, &v.Ecosystem, &v.Source.Name, &v.Source.Version, &v.Repository, &v.OwnedBy,
		(*string)(&v.Found),
	} {
		*s = u.text()
	}
	v.Licenses, v.Files, v.Digests = u.list(), u.list(), u.list()
	const least = 3 // bytes of a place
	if n, none := u.length(least); !none {
		v.Places = make([]inventory.Place, n)
	}
	for i := range v.Places {
		v.Places[i] = inventory.Place{Path: u.text(), Layer: int(u.varint()), Written: u.uvarint()&packedWritten != 0}
	}
	bits := u.uvarint()
	v.Dev, v.Indirect = bits&packedDev != 0, bits&packedIndirect != 0
	if at := u.text(); at != "" {
		v.Published = new(time.Time)
		if err := v.Published.UnmarshalText([]byte(at)); err != nil {
			return err
		}
	}
	if u.bad {
		return errCut
	}
	return nil
}
