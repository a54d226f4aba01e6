package main

import (
	"testing"

	"github.com/castellan-security/castellan/internal/trust"
)

// A registry is asked for forms that nobody takes only to say why an image is
// denied: that spares two of six requests for each image that is allowed.
func TestRegistriesAreAskedInHalves(t *testing.T) {
	n := named{shelf: registryShelf{}}
	if _, can := any(n.shelf).(trust.Halves); !can {
		t.Error("a registry is asked for everything at once")
	}
}
