package sigstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/pull"
	"github.com/castellan-security/castellan/internal/signature"
)

// signPredicate is the predicate of a bare signature, as cosign writes it since
// version 3: nothing is said but that the image is signed.
const signPredicate = "https://sigstore.dev/cosign/sign/v1"

// The types of statements (in-toto Attestation Framework).
const (
	statementV1  = "https://in-toto.io/Statement/v1"
	statementV01 = "https://in-toto.io/Statement/v0.1"
)

// statement is the part of one that is looked at.
type statement struct {
	kind      string
	predicate string
	body      []byte
	subjects  int
	digests   []string // of the subjects that have one, "sha256:HEX"
	about     bool     // one of the subjects is the wanted one
	notes     map[string]string
}

// bindStatement holds the statement against the subject.
func (m *material) bindStatement(s *signature.Signed) error {
	if m.payloadType != statementType {
		return signature.Refuse(signature.Unsupported, "an envelope of %q is not known; %s is", clip(m.payloadType), statementType)
	}
	want := hex.EncodeToString(m.digest)
	st, err := readStatement(m.payload, want)
	if err != nil {
		return unreadable("the statement", err)
	}
	switch {
	case st.kind != statementV1 && st.kind != statementV01:
		return signature.Refuse(signature.Unsupported, "a statement of the type %q is not known", clip(st.kind))
	case st.predicate == "":
		return signature.Refuse(signature.Malformed, "the statement has no predicateType")
	case !st.about:
		return signature.Refuse(signature.OtherSubject, "none of the statement's %d subjects is sha256:%s", st.subjects, want)
	}
	s.Annotations = st.notes
	if st.predicate != signPredicate {
		s.Statement = &signature.Statement{Predicate: st.predicate, Body: st.body, Subjects: st.digests}
	}
	return nil
}

// readStatement reads a statement without building what is in its predicate,
// which may be megabytes; but no name may stand twice in any of it.
func readStatement(data []byte, want string) (statement, error) {
	var st statement
	var r pull.Reader
	r.Reset(data)
	if !utf8.Valid(data) {
		return st, errNotUTF8
	}
	seen := map[string]bool{}
	if r.Kind() != pull.Struct {
		return st, errNoObject
	}
	for r.Object(); r.Next(); {
		name := r.Name()
		if seen[name] {
			r.Fail(errTwice(name))
			break
		}
		seen[name] = true
		switch name {
		case "_type":
			st.kind = r.Text()
		case "predicateType":
			st.predicate = r.Text()
		case "predicate":
			r.Kind() // goes to where it begins
			from := r.Offset()
			unique(&r)
			if r.Err() == nil {
				st.body = data[from:r.Offset()]
			}
		case "subject":
			st.readSubjects(&r, want)
		default:
			unique(&r)
		}
	}
	return st, r.End()
}

func (st *statement) readSubjects(r *pull.Reader, want string) {
	for r.Array(); r.Err() == nil && r.Next(); {
		if st.subjects++; st.subjects > maxSubjects {
			r.Fail(errSubjects)
			return
		}
		left := maxNodes
		v, _ := value(r, &left).(map[string]any)
		if r.Err() != nil {
			return
		}
		o := object{path: "subject", fields: v, errs: new([]error)}
		digest := o.object("digest").text("sha256")
		notes := annotations(o.object("annotations"))
		if err := o.err(); err != nil {
			r.Fail(err)
			return
		}
		// A digest may be written in capitals; nothing else about it may differ.
		digest = strings.ToLower(digest)
		if len(digest) == 2*sha256.Size {
			st.digests = append(st.digests, "sha256:"+digest)
		}
		if digest == want && !st.about {
			st.about, st.notes = true, notes
		}
	}
}
