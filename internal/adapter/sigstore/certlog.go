package sigstore

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/castellan-security/castellan/internal/signature"
)

func oidSCTs() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
}

// promise is a certificate log's signed promise (RFC 6962, 3.2).
type promise struct {
	log        string
	time       uint64 // milliseconds
	extensions []byte
	signature  []byte
}

// checkPromises checks that a known log has promised to show the certificate.
func checkPromises(leaf, issuer *x509.Certificate, logs map[string]*log) error {
	var list []byte
	for _, e := range leaf.Extensions {
		if e.Id.Equal(oidSCTs()) {
			list = e.Value
		}
	}
	if list == nil {
		return signature.Refuse(signature.NoLog, "the certificate has no promise of a certificate log (SCT), and its root has such logs")
	}
	promises, err := readPromises(list)
	if err != nil {
		return signature.Refuse(signature.Malformed, "the certificate's promises of certificate logs can't be read: %v", err)
	}
	tbs, err := withoutPromises(leaf.RawTBSCertificate)
	if err != nil {
		return signature.Refuse(signature.Malformed, "the certificate can't be taken apart: %v", err)
	}
	for _, p := range promises {
		l := logs[p.log]
		if l == nil || !l.between.holds(time.UnixMilli(int64(p.time&(1<<62-1)))) {
			continue
		}
		if holdsWith(l.key, l.hash, p.signed(tbs, issuer), p.signature) {
			return nil
		}
	}
	return signature.Refuse(signature.NoLog, "no known certificate log has promised to show the certificate (%d promises of others or false)", len(promises))
}

// signed is what a log signs for a certificate that is about to be made.
func (p promise) signed(tbs []byte, issuer *x509.Certificate) []byte {
	key := hashParts(issuer.RawSubjectPublicKeyInfo)
	var b cryptobyte.Builder
	b.AddUint8(0) // version 1
	b.AddUint8(0) // a certificate's time stamp
	b.AddUint64(p.time)
	b.AddUint16(1) // of a precertificate
	b.AddBytes(key)
	b.AddUint24LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(tbs) })
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(p.extensions) })
	return b.BytesOrPanic() // lengths are bounded by maxCertificate
}

func readPromises(extension []byte) ([]promise, error) {
	wrong := errors.New("not a list of signed certificate time stamps")
	in := cryptobyte.String(extension)
	var octets, list cryptobyte.String
	if !in.ReadASN1(&octets, casn1.OCTET_STRING) || !in.Empty() || !octets.ReadUint16LengthPrefixed(&list) || !octets.Empty() {
		return nil, wrong
	}
	var all []promise
	for !list.Empty() {
		var one, ext, sig cryptobyte.String
		var version uint8
		var algorithm uint16
		id := make([]byte, 32)
		p := promise{}
		if !list.ReadUint16LengthPrefixed(&one) || !one.ReadUint8(&version) || !one.CopyBytes(id) || !one.ReadUint64(&p.time) ||
			!one.ReadUint16LengthPrefixed(&ext) || !one.ReadUint16(&algorithm) || !one.ReadUint16LengthPrefixed(&sig) || !one.Empty() || version != 0 {
			return nil, wrong
		}
		if len(all) == maxSCTs {
			return nil, errors.New("there are too many")
		}
		p.log, p.extensions, p.signature = string(id), ext, sig
		all = append(all, p)
	}
	return all, nil
}

// withoutPromises makes the certificate that the log saw: the promises are added
// afterwards.
func withoutPromises(tbs []byte) ([]byte, error) {
	wrong := errors.New("its parts are not where they should be")
	in := cryptobyte.String(tbs)
	var body cryptobyte.String
	if !in.ReadASN1(&body, casn1.SEQUENCE) {
		return nil, wrong
	}
	tag := casn1.Tag(3).Constructed().ContextSpecific()
	var kept []byte
	for !body.Empty() {
		var part cryptobyte.String
		var t casn1.Tag
		if !body.ReadAnyASN1Element(&part, &t) {
			return nil, wrong
		}
		if t != tag {
			kept = append(kept, part...)
			continue
		}
		var outer, list cryptobyte.String
		if !part.ReadASN1(&outer, tag) || !outer.ReadASN1(&list, casn1.SEQUENCE) {
			return nil, wrong
		}
		extensions, err := dropPromises(list)
		if err != nil {
			return nil, err
		}
		var b cryptobyte.Builder
		b.AddASN1(tag, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
		})
		if extensions, err = b.Bytes(); err != nil {
			return nil, err
		}
		kept = append(kept, extensions...)
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
	return b.Bytes()
}

func dropPromises(list cryptobyte.String) ([]byte, error) {
	var kept []byte
	for !list.Empty() {
		var e, inner cryptobyte.String
		var id asn1.ObjectIdentifier
		if !list.ReadASN1Element(&e, casn1.SEQUENCE) {
			return nil, errors.New("an extension is cut off")
		}
		whole := e
		if !e.ReadASN1(&inner, casn1.SEQUENCE) || !inner.ReadASN1ObjectIdentifier(&id) {
			return nil, errors.New("an extension has no name")
		}
		if !id.Equal(oidSCTs()) {
			kept = append(kept, whole...)
		}
	}
	return kept, nil
}
