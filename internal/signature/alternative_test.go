package signature_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/signature"
)

func TestFormOf(t *testing.T) {
	for name, want := range map[string]signature.NameForm{
		"https://me@acme.example/x": signature.FormURI, "spiffe://acme.example/build": signature.FormURI, "me@acme.example": signature.FormMail,
		"mailto:me@acme.example": signature.FormMail, "build.acme.example": signature.FormHost, "10.0.0.1": signature.FormIP, "::1": signature.FormIP, "": signature.FormHost,
	} {
		if got := signature.FormOf(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}
