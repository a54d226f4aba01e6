package bpf

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/castellan-security/castellan/internal/event"
)

// Parts of a message: RFC 1035 section 4.1.
const (
	dnsHeadLen  = 12
	dnsResponse = 0x8000
	dnsCut      = 0x0200
	dnsCode     = 0xf
	// maxAnswerText bounds the text of one answer: a TXT record can have 64 KiB.
	maxAnswerText = 512
)

var errNoMessage = errors.New("not a DNS message")

// message is what is told of a DNS message.
type message struct {
	id        uint16
	response  bool
	truncated bool
	code      uint16
	name      string
	kind      uint16
	answers   []string
	addresses []address
}

type address struct {
	addr netip.Addr
	ttl  time.Duration
}

// parseMessage reads the head, the first question and the answers. Answers that
// can't be read, because they are cut or wrong, only make it truncated.
func parseMessage(b []byte) (message, error) {
	if len(b) < dnsHeadLen {
		return message{}, errNoMessage
	}
	flags := binary.BigEndian.Uint16(b[2:])
	m := message{
		id: binary.BigEndian.Uint16(b), response: flags&dnsResponse != 0,
		truncated: flags&dnsCut != 0, code: flags & dnsCode,
	}
	name, rest, ok := questionName(b[dnsHeadLen:])
	if !ok || len(rest) < 4 {
		return message{}, errNoMessage
	}
	m.name, m.kind = name, binary.BigEndian.Uint16(rest)
	if m.response {
		m.readAnswers(b)
	}
	return m, nil
}

// questionName reads a name without references to others, which a question has
// none of, and returns what follows it. Unlike the library it takes any byte in
// a label: who hides data in names uses them.
func questionName(b []byte) (name string, rest []byte, ok bool) {
	const maxName, maxLabel = 255, 63
	var text strings.Builder
	for read := 0; ; {
		if len(b) == 0 {
			return "", nil, false
		}
		n := int(b[0])
		if n == 0 {
			break
		}
		if read += n + 1; n > maxLabel || read >= maxName || len(b) < n+1 {
			return "", nil, false
		}
		if text.Len() > 0 {
			text.WriteByte('.')
		}
		for _, c := range b[1 : n+1] {
			present(&text, c, c == '.')
		}
		b = b[n+1:]
	}
	if text.Len() == 0 {
		text.WriteByte('.')
	}
	return text.String(), b[1:], true
}

// present writes one byte of a label: lower case, and what is not printable, or
// means something in a name, as RFC 1035 section 5.1 has it.
func present(text *strings.Builder, c byte, special bool) {
	switch {
	case special || c == '\\':
		text.WriteByte('\\')
		text.WriteByte(c)
	case c <= ' ' || c > '~':
		fmt.Fprintf(text, "\\%03d", c)
	case c >= 'A' && c <= 'Z':
		text.WriteByte(c + 'a' - 'A')
	default:
		text.WriteByte(c)
	}
}

// nameText is the text of a name as the library gives it.
func nameText(n dnsmessage.Name) string {
	b := n.Data[:n.Length]
	if len(b) > 1 && b[len(b)-1] == '.' {
		b = b[:len(b)-1]
	}
	var text strings.Builder
	for _, c := range b {
		present(&text, c, false)
	}
	return text.String()
}

// readAnswers reads up to event.MaxAnswers answers.
func (m *message) readAnswers(b []byte) {
	var p dnsmessage.Parser
	if _, err := p.Start(b); err != nil {
		m.truncated = true
		return
	}
	if err := p.SkipAllQuestions(); err != nil {
		m.truncated = true
		return
	}
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return
		}
		if err != nil || len(m.answers) == event.MaxAnswers {
			m.truncated = true
			return
		}
		text, err := m.readAnswer(&p, h)
		if err != nil {
			m.truncated = true
			return
		}
		if len(text) > maxAnswerText {
			text, m.truncated = text[:maxAnswerText], true
		}
		m.answers = append(m.answers, text)
	}
}

// readAnswer returns the text of one answer, and keeps its address.
func (m *message) readAnswer(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) (string, error) {
	ttl := time.Duration(h.TTL) * time.Second
	switch h.Type {
	case dnsmessage.TypeA:
		r, err := p.AResource()
		return m.keep(netip.AddrFrom4(r.A), ttl), err
	case dnsmessage.TypeAAAA:
		r, err := p.AAAAResource()
		return m.keep(netip.AddrFrom16(r.AAAA).Unmap(), ttl), err
	case dnsmessage.TypeCNAME:
		r, err := p.CNAMEResource()
		return nameText(r.CNAME), err
	case dnsmessage.TypeNS:
		r, err := p.NSResource()
		return nameText(r.NS), err
	case dnsmessage.TypePTR:
		r, err := p.PTRResource()
		return nameText(r.PTR), err
	case dnsmessage.TypeMX:
		r, err := p.MXResource()
		return fmt.Sprintf("%d %s", r.Pref, nameText(r.MX)), err
	case dnsmessage.TypeSRV:
		r, err := p.SRVResource()
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, nameText(r.Target)), err
	case dnsmessage.TypeTXT:
		r, err := p.TXTResource()
		return printable(strings.Join(r.TXT, " ")), err
	}
	r, err := p.UnknownResource()
	// RFC 3597 section 5: the form of what has no other.
	return fmt.Sprintf("%s \\# %d %s", typeName(uint16(h.Type)), len(r.Data), hex.EncodeToString(r.Data[:min(len(r.Data), 64)])), err
}

func (m *message) keep(a netip.Addr, ttl time.Duration) string {
	m.addresses = append(m.addresses, address{a, ttl})
	return a.String()
}

// printable writes every byte that is not as \DDD.
func printable(s string) string {
	var text strings.Builder
	for i := 0; i < len(s) && text.Len() <= maxAnswerText; i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			fmt.Fprintf(&text, "\\%03d", c)
			continue
		}
		text.WriteByte(s[i])
	}
	return text.String()
}

// typeNames are those of the IANA's registry that are met.
var typeNames = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT",
	17: "RP", 18: "AFSDB", 24: "SIG", 25: "KEY", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR",
	37: "CERT", 39: "DNAME", 41: "OPT", 43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC",
	48: "DNSKEY", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 61: "OPENPGPKEY", 64: "SVCB", 65: "HTTPS",
	99: "SPF", 249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA",
}

func typeName(n uint16) string {
	if name := typeNames[n]; name != "" {
		return name
	}
	return "TYPE" + strconv.Itoa(int(n))
}

// codeNames are in the order of their numbers: RFC 6895 section 2.3.
var codeNames = [...]string{
	"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
	"YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE", "DSOTYPENI",
}

func codeName(n uint16) string {
	if int(n) < len(codeNames) {
		return codeNames[n]
	}
	return "RCODE" + strconv.Itoa(int(n))
}
