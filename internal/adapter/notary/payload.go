package notary

import (
	"fmt"
	"strconv"

	"github.com/castellan-security/castellan/internal/pull"
	"github.com/castellan-security/castellan/internal/signature"
)

// target is what a payload is about: the descriptor of a manifest.
type target struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// readPayload reads a payload. What the specification does not name is skipped.
func readPayload(data []byte) (target, error) {
	var (
		r   pull.Reader
		t   target
		has bool
	)
	if len(data) > maxPayload {
		return t, signature.Refuse(signature.TooLarge, "the payload has %d bytes, at most %d are read", len(data), maxPayload)
	}
	r.Reset(data)
	err := members(&r, func(name string) error {
		if name != "targetArtifact" {
			r.Skip()
			return nil
		}
		has = true
		return t.read(&r)
	})
	if err != nil {
		return t, err
	}
	if err := r.End(); err != nil {
		return t, malformed("payload", err)
	}
	if !has || t.MediaType == "" || t.Digest == "" {
		return t, signature.Refuse(signature.Malformed, "the payload does not say what it is about")
	}
	return t, nil
}

func (t *target) read(r *pull.Reader) error {
	t.Size = -1
	err := members(r, func(name string) error {
		switch name {
		case "mediaType":
			t.MediaType = r.Text()
		case "digest":
			t.Digest = r.Text()
		case "size":
			var err error
			t.Size, err = size(r)
			return err
		case "annotations":
			return t.annotations(r)
		default:
			r.Skip()
		}
		return nil
	})
	if err == nil && t.Size < 0 {
		return signature.Refuse(signature.Malformed, "the payload does not say how large the manifest is that it is about")
	}
	return err
}

func size(r *pull.Reader) (int64, error) {
	if r.Kind() != pull.Number {
		return 0, signature.Refuse(signature.Malformed, "the size of what the payload is about is no number")
	}
	text := r.Scalar()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, signature.Refuse(signature.Malformed, "the size of what the payload is about is %s", shown(text))
	}
	return n, nil
}

// annotations reads the signed annotations. Their names, unlike all others, are
// told apart by case.
func (t *target) annotations(r *pull.Reader) error {
	if !r.Object() {
		return nil
	}
	t.Annotations = map[string]string{}
	for r.Next() {
		name := r.Name()
		if _, twice := t.Annotations[name]; twice {
			return signature.Refuse(signature.Malformed, "the annotation %s is there twice", shown(name))
		}
		if len(t.Annotations) == maxMembers {
			return signature.Refuse(signature.TooLarge, "the payload has more than %d annotations", maxMembers)
		}
		t.Annotations[name] = r.Text()
	}
	return nil
}

// about compares what is signed with what is asked for.
func (t target) about(s signature.Subject) error {
	if s.Digest == "" {
		return fmt.Errorf("open a signature: the digest of what it must be about is not given")
	}
	switch {
	case t.Digest != s.Digest:
		return signature.Refuse(signature.OtherSubject, "it is the signature of %s, not of %s", shown(t.Digest), s.Digest)
	case s.Size > 0 && t.Size != s.Size:
		return signature.Refuse(signature.OtherSubject, "it is the signature of a manifest of %d bytes; this one has %d", t.Size, s.Size)
	case s.MediaType != "" && t.MediaType != s.MediaType:
		return signature.Refuse(signature.OtherSubject, "it is the signature of a %s; this is a %s", shown(t.MediaType), shown(s.MediaType))
	}
	return nil
}
