// Package all lists the rules of detection that are written in Go.
package all

import (
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/pattern/beacon"
	"github.com/castellan-security/castellan/internal/detect/pattern/bindshell"
	"github.com/castellan-security/castellan/internal/detect/pattern/brute"
	"github.com/castellan-security/castellan/internal/detect/pattern/deletion"
	"github.com/castellan-security/castellan/internal/detect/pattern/dnstunnel"
	"github.com/castellan-security/castellan/internal/detect/pattern/encryption"
	"github.com/castellan-security/castellan/internal/detect/pattern/exfil"
	"github.com/castellan-security/castellan/internal/detect/pattern/flood"
	"github.com/castellan-security/castellan/internal/detect/pattern/forkbomb"
	"github.com/castellan-security/castellan/internal/detect/pattern/hostscan"
	"github.com/castellan-security/castellan/internal/detect/pattern/implant"
	"github.com/castellan-security/castellan/internal/detect/pattern/minerload"
	"github.com/castellan-security/castellan/internal/detect/pattern/portscan"
	"github.com/castellan-security/castellan/internal/detect/pattern/rawflood"
	"github.com/castellan-security/castellan/internal/detect/pattern/retag"
	"github.com/castellan-security/castellan/internal/detect/pattern/session"
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
		{bindshell.About, bindshell.New},
		{brute.About, brute.New},
		{deletion.About, deletion.New},
		{dnstunnel.About, dnstunnel.New},
		{encryption.About, encryption.New},
		{exfil.About, exfil.New},
		{flood.About, flood.New},
		{forkbomb.About, forkbomb.New},
		{hostscan.About, hostscan.New},
		{implant.About, implant.New},
		{minerload.About, minerload.New},
		{portscan.About, portscan.New},
		{rawflood.About, rawflood.New},
		{retag.About, retag.New},
		{session.About, session.New},
	}
}
