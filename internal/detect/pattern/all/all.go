// Package all lists the rules of detection that are written in Go.
package all

import (
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/pattern/beacon"
	"github.com/castellan-security/castellan/internal/detect/pattern/deletion"
	"github.com/castellan-security/castellan/internal/detect/pattern/dnstunnel"
	"github.com/castellan-security/castellan/internal/detect/pattern/encryption"
	"github.com/castellan-security/castellan/internal/detect/pattern/exfil"
	"github.com/castellan-security/castellan/internal/detect/pattern/flood"
	"github.com/castellan-security/castellan/internal/detect/pattern/hostscan"
	"github.com/castellan-security/castellan/internal/detect/pattern/portscan"
	"github.com/castellan-security/castellan/internal/detect/pattern/rawflood"
	"github.com/castellan-security/castellan/internal/threat"
)

// Pattern is one rule: what people are told of it, with its parameters as they are
// unless users set them, and how a detector is made of that.
type Pattern struct {
	About func() *threat.Rule
	New   pattern.Maker
}

// Patterns returns them, each once.
func Patterns() []Pattern {
	return []Pattern{
		{beacon.About, beacon.New},
		{exfil.About, exfil.New},
		{deletion.About, deletion.New},
		{encryption.About, encryption.New},
		{dnstunnel.About, dnstunnel.New},
		{flood.About, flood.New},
		{rawflood.About, rawflood.New},
		{hostscan.About, hostscan.New},
		{portscan.About, portscan.New},
	}
}
