package oci

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/signature"
)

// attachable is an envelope about an image, for seeds.
func attachable(t testing.TB) *attaching {
	t.Helper()
	a, err := prepare(signature.Subject{Digest: digestOf([]byte("image"), ""), MediaType: typeManifest, Size: 5},
		signature.Envelope{MediaType: typeBundle + ".v0.3+json", Payload: []byte("{}"), Annotations: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// FuzzParseReferrers wants entries that can be followed, and a list that is
// still one when an entry was added, with all that it had.
func FuzzParseReferrers(f *testing.F) {
	a := attachable(f)
	index, _, err := a.amendIndex(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(index), seedIndex, seedManifest, `{"schemaVersion":2,"manifests":null}`,
		`{"schemaVersion":2,"manifests":[{"digest":"x"},7,null,{"data":"!"}],"annotations":{"a":"b"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, wrong, err := parseReferrers(b)
		if err != nil {
			return
		}
		for _, d := range entries {
			if inventory.CheckDigest(d.Digest) != nil || d.Size < 0 {
				t.Fatalf("entry %+v", d)
			}
		}
		if len(wrong) > maxLeft+1 {
			t.Fatalf("%d errors", len(wrong))
		}
		next, _, err := a.amendIndex(b)
		if err != nil || next == nil {
			return
		}
		after, still, err := parseReferrers(next)
		if err != nil || len(after) != len(entries)+1 || len(still) != len(wrong) || after[len(entries)].Digest != a.digest {
			t.Fatalf("%d entries and %d wrong ones became %d and %d, %v", len(entries), len(wrong), len(after), len(still), err)
		}
	})
}

// FuzzParseAttachment wants manifests that were read to be about what they say,
// and one of an older cosign to keep its signatures when another is added.
func FuzzParseAttachment(f *testing.F) {
	a := attachable(f)
	manifest, _, err := a.withLayer(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(a.manifest), string(manifest), seedManifest, seedIndex,
		fmt.Sprintf(`{"schemaVersion":2,"config":{},"layers":[{"mediaType":%q,"data":"e30="}],"subject":{"digest":%q}}`, typeCOSE, a.subject.Digest)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseAttachment(b)
		if err != nil {
			return
		}
		if m.subject != nil && m.subject.Digest != a.subject.Digest && m.about("sha256:0", a.subject, false) == nil {
			t.Fatalf("about %q passes for %q", m.subject.Digest, a.subject.Digest)
		}
		next, config, err := a.withLayer(b)
		if err != nil || next == nil {
			return
		}
		again, err := parseAttachment(next)
		if err != nil || len(again.layers) != len(m.layers)+1 {
			t.Fatalf("%d layers became %+v, %v", len(m.layers), again, err)
		}
		if !json.Valid(config) || strings.Count(string(config), `"created"`) != len(again.layers)+1 {
			t.Fatalf("configuration %s for %d layers", config, len(again.layers))
		}
	})
}
