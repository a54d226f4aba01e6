package watch_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/watch"
)

const signable = "profile: 1\ngroup: shop/web/nginx\nexecutables:\n  - path: /usr/sbin/nginx\n"

func newKey(t *testing.T) (crypto.PublicKey, crypto.Signer) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestASignatureHoldsForItsTextAlone(t *testing.T) {
	public, private := newKey(t)
	other, _ := newKey(t)
	s, err := watch.SignProfile([]byte(signable), private)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := watch.VerifyProfile([]byte(signable), s, []crypto.PublicKey{other, public}); err != nil || key == "" {
		t.Errorf("signed: got %q, %v", key, err)
	}
	var carried map[string]any
	if err := json.Unmarshal(s, &carried); err != nil {
		t.Fatal(err)
	}
	carried["payload"] = []byte(signable)
	inside, err := json.Marshal(carried)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text, signature []byte
		keys            []crypto.PublicKey
		want            fault.Kind
	}{
		"more is permitted":   {[]byte(signable + "  - path: /bin/sh\n"), s, []crypto.PublicKey{public}, fault.Denied},
		"another group":       {bytes.Replace([]byte(signable), []byte("shop"), []byte("bank"), 1), s, []crypto.PublicKey{public}, fault.Denied},
		"another key":         {[]byte(signable), s, []crypto.PublicKey{other}, fault.Denied},
		"no key":              {[]byte(signable), s, nil, fault.Denied},
		"of something else":   {[]byte(signable), bytes.Replace(s, []byte("castellan.profile"), []byte("castellan.bundles"), 1), []crypto.PublicKey{public}, fault.Corrupt},
		"a text of its own":   {[]byte(signable), inside, []crypto.PublicKey{public}, fault.Corrupt},
		"no signature at all": {[]byte(signable), []byte("{}"), []crypto.PublicKey{public}, fault.Corrupt},
		"no envelope":         {[]byte(signable), []byte("nonsense"), []crypto.PublicKey{public}, fault.Corrupt},
		"too long":            {[]byte(signable), bytes.Repeat([]byte(" "), watch.MaxSignature+1), []crypto.PublicKey{public}, fault.Corrupt},
	} {
		if key, err := watch.VerifyProfile(c.text, c.signature, c.keys); key != "" || !fault.Is(err, c.want) {
			t.Errorf("%s: got %q, %v", name, key, err)
		}
	}
}

func TestWhatIsNotSigned(t *testing.T) {
	_, private := newKey(t)
	for name, text := range map[string]string{
		"for any group": "profile: 1\nexecutables:\n  - path: /bin/sh\n", "no profile": "a: 1\n", "nothing": "",
	} {
		if s, err := watch.SignProfile([]byte(text), private); err == nil {
			t.Errorf("%s: got %s", name, s)
		}
	}
}
