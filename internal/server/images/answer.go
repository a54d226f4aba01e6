package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Limits of an answer. An image with 10,000 packages, far more than any that we
// know, is a third of each; together they bound what one answer can make the
// server hold to some 300 MiB, and one is decoded at a time.
const (
	maxUnpacked = 64 << 20 // bytes of JSON
	maxWindow   = 16 << 20 // bytes that the compression may refer back by
	// maxObjects and maxValues bound what grows most when it is decoded: two
	// characters of JSON can become half a kilobyte.
	maxObjects  = 250_000
	maxValues   = 1_500_000
	maxPackages = 100_000
	// maxText bounds one text; paths have 4,096 bytes at most.
	maxText = 4_096
)

// decode reads the inventory of an answer, which may be anything.
func decode(packed []byte) (inventory.Inventory, error) {
	var inv inventory.Inventory
	if len(packed) > link.MaxInventory {
		return inv, bad("it is larger than %d MiB", link.MaxInventory>>20)
	}
	b, err := unpack(packed)
	if err != nil {
		return inv, err
	}
	if err := weigh(b); err != nil {
		return inv, err
	}
	if err := json.Unmarshal(b, &inv); err != nil {
		return inventory.Inventory{}, bad("read it: %w", err)
	}
	if len(inv.Packages) > maxPackages {
		return inventory.Inventory{}, bad("it has more than %d packages", maxPackages)
	}
	if inv.Image != nil {
		inv.Image.Config.Env = nil // people put passwords there, and nothing here needs it
	}
	tidy(reflect.ValueOf(&inv).Elem())
	inventory.SortPackages(inv.Packages)
	return inv, nil
}

func bad(format string, args ...any) error {
	return fault.New(fault.Invalid, "the inventory is of no use: "+format, args...).
		With("run the same version of Castellan on the agent's host as on the server")
}

func unpack(packed []byte) ([]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, bad("decompress it: %w", err)
	}
	defer z.Close()
	b, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	switch {
	case len(b) > maxUnpacked, errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, bad("it is larger than %d MiB when it is decompressed", maxUnpacked>>20)
	case err != nil:
		return nil, bad("decompress it: %w", err)
	}
	return b, nil
}

// weigh counts the objects and values of a JSON text without building any, so
// that what it would become is known before.
func weigh(b []byte) error {
	objects, values := 0, 1
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += textLength(b[i+1:]) + 1
		case '{':
			objects++
			values++
		case '[', ',':
			values++
		}
	}
	if objects > maxObjects || values > maxValues {
		return bad("it has %d objects and %d values, want %d and %d at most", objects, values, maxObjects, maxValues)
	}
	return nil
}

// textLength returns how far it is to the quote that ends a text.
func textLength(b []byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(b[n:], '"')
		if i < 0 {
			return len(b)
		}
		n += i
		slashes := 0
		for slashes < n && b[n-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return n
		}
		n++
	}
}

// inventoryPkg is where the structs come from that have texts to tidy.
var inventoryPkg = reflect.TypeFor[inventory.Inventory]().PkgPath()

// tidy makes every text in v one that can be stored: valid UTF-8 without NUL, of
// bounded length.
func tidy(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(untrusted.Clip(v.String(), maxText))
	case reflect.Pointer:
		if !v.IsNil() {
			tidy(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			tidy(v.Index(i))
		}
	case reflect.Map:
		tidyMap(v)
	case reflect.Struct:
		if v.Type().PkgPath() == inventoryPkg {
			for i := range v.NumField() {
				tidy(v.Field(i))
			}
		}
	}
}

func tidyMap(v reflect.Value) {
	m, ok := v.Interface().(map[string]string)
	if !ok {
		return
	}
	for key, value := range m {
		delete(m, key)
		m[untrusted.Clip(key, maxText)] = untrusted.Clip(value, maxText)
	}
}
