// Package trail reads what CloudTrail writes: its files, plain or packed by gzip, and
// its events as EventBridge sends them, into events of calls.
//
// What stands in records was written by whoever called AWS, an intruder included: each
// record, each text of one and the whole are bounded, and what can't be read is counted
// and left out.
package trail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Bounds. CloudTrail cuts records at 256 KiB, and begins a new file every five minutes
// or at 50 MB.
const (
	MaxDocument = 512 << 20 // bytes unpacked, of one file
	MaxRecord   = 1 << 20   // bytes of one record
	maxPart     = 256 << 10 // of what was asked for, or answered: larger ones are left out
	readAhead   = 64 << 10
)

// Bounds of texts.
const (
	maxWord = 256
	maxText = 1024
)

// Counts are what was in documents.
type Counts struct {
	Calls      int `json:"calls"`                // that were read
	Skipped    int `json:"skipped,omitempty"`    // that are no calls: insights, digests
	Unreadable int `json:"unreadable,omitempty"` // records that are none
}

// Add adds others.
func (c *Counts) Add(o Counts) {
	c.Calls, c.Skipped, c.Unreadable = c.Calls+o.Calls, c.Skipped+o.Skipped, c.Unreadable+o.Unreadable
}

// Read reads a document: records as a file of CloudTrail has them, events of
// EventBridge or single records, one after the other. It may be packed by gzip. take is
// called with each call; its error ends it. The error is of the kind Invalid for what is
// no such document, and Exhausted for one that is too large; calls before that were
// taken.
func Read(r io.Reader, take func(*event.Event) error) (Counts, error) {
	in := bufio.NewReaderSize(r, readAhead)
	var from io.Reader = in
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return Counts{}, fault.New(fault.Invalid, "unpack: %w", err)
		}
		from = z
	}
	x := &reader{meter: &meter{from: from, left: MaxDocument, record: MaxRecord + readAhead}, take: take}
	x.json = json.NewDecoder(x.meter)
	err := x.documents()
	if x.meter.over != nil {
		err = x.meter.over
	}
	return x.counts, err
}

// meter bounds what is read, in all and for each record.
type meter struct {
	from         io.Reader
	left, record int64
	over         error
}

func (m *meter) Read(b []byte) (int, error) {
	if m.left <= 0 {
		m.over = fault.New(fault.Exhausted, "it has more than %d MiB unpacked", MaxDocument>>20)
		return 0, m.over
	}
	if m.record <= 0 {
		m.over = fault.New(fault.Exhausted, "a record has more than %d KiB", MaxRecord>>10)
		return 0, m.over
	}
	n, err := m.from.Read(b[:min(int64(len(b)), m.left, m.record)])
	m.left, m.record = m.left-int64(n), m.record-int64(n)
	return n, err
}

type reader struct {
	meter  *meter
	json   *json.Decoder
	take   func(*event.Event) error
	counts Counts
}

// documents reads one value after the other.
func (x *reader) documents() error {
	for n := 0; ; n++ {
		t, err := x.json.Token()
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return nil
		case errors.Is(err, io.EOF):
			return fault.New(fault.Invalid, "it is empty")
		case err != nil:
			return fault.New(fault.Invalid, "parse: %w", err)
		}
		switch t {
		case json.Delim('['):
			err = x.list()
		case json.Delim('{'):
			err = x.object()
		default:
			err = fault.New(fault.Invalid, "it is no document of CloudTrail")
		}
		if err != nil {
			return err
		}
	}
}

// list reads records to the end of a list.
func (x *reader) list() error {
	for x.json.More() {
		x.meter.record = MaxRecord + readAhead
		var raw json.RawMessage
		if err := x.json.Decode(&raw); err != nil {
			return fault.New(fault.Invalid, "parse record: %w", err)
		}
		if err := x.record(raw); err != nil {
			return err
		}
	}
	_, err := x.json.Token()
	if err != nil {
		return fault.New(fault.Invalid, "parse: %w", err)
	}
	return nil
}

// object reads what is a document with records, or else one record, member by member.
func (x *reader) object() error {
	members := map[string]json.RawMessage{}
	records := false
	for x.json.More() {
		t, err := x.json.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return fault.New(fault.Invalid, "parse: %w", err)
		}
		if name == "Records" || name == "records" {
			t, err := x.json.Token()
			if err != nil {
				return fault.New(fault.Invalid, "parse: %w", err)
			}
			if t != json.Delim('[') {
				return fault.New(fault.Invalid, "its Records are no list")
			}
			records = true
			if err := x.list(); err != nil {
				return err
			}
			continue
		}
		var raw json.RawMessage
		if err := x.json.Decode(&raw); err != nil {
			return fault.New(fault.Invalid, "parse: %w", err)
		}
		if len(members) < 100 { // records have some 25
			members[name] = raw
		}
	}
	if _, err := x.json.Token(); err != nil {
		return fault.New(fault.Invalid, "parse: %w", err)
	}
	x.meter.record = MaxRecord + readAhead
	switch {
	case records:
		return nil
	case members["digestStartTime"] != nil:
		x.counts.Skipped++
		return nil
	}
	raw, err := json.Marshal(members)
	if err != nil {
		return fault.New(fault.Invalid, "parse: %w", err)
	}
	return x.record(raw)
}

// record takes one record, or what EventBridge or LookupEvents have one in.
func (x *reader) record(raw json.RawMessage) error {
	var wrapped struct {
		Kind   string          `json:"detail-type"`
		Detail json.RawMessage `json:"detail"`
		Lookup string          `json:"CloudTrailEvent"`
	}
	if bytes.Contains(raw, []byte(`"detail"`)) || bytes.Contains(raw, []byte(`"CloudTrailEvent"`)) {
		if json.Unmarshal(raw, &wrapped) == nil {
			switch {
			case wrapped.Kind != "" && len(wrapped.Detail) > 0:
				raw = wrapped.Detail
			case wrapped.Lookup != "":
				raw = json.RawMessage(wrapped.Lookup)
			}
		}
	}
	e, ok, err := Parse(raw)
	switch {
	case err != nil:
		x.counts.Unreadable++
		return nil
	case !ok:
		x.counts.Skipped++
		return nil
	}
	x.counts.Calls++
	return x.take(e)
}

// record is one of CloudTrail (user guide, "CloudTrail record contents"), as far as it
// is read.
type record struct {
	Identity  identity        `json:"userIdentity"`
	Time      string          `json:"eventTime"`
	Source    string          `json:"eventSource"`
	Name      string          `json:"eventName"`
	Region    string          `json:"awsRegion"`
	Address   string          `json:"sourceIPAddress"`
	Agent     string          `json:"userAgent"`
	Error     string          `json:"errorCode"`
	Message   string          `json:"errorMessage"`
	Request   json.RawMessage `json:"requestParameters"`
	Response  json.RawMessage `json:"responseElements"`
	Extra     json.RawMessage `json:"additionalEventData"`
	ID        string          `json:"eventID"`
	ReadOnly  json.RawMessage `json:"readOnly"` // a truth, and in old records a text
	Type      string          `json:"eventType"`
	Recipient string          `json:"recipientAccountId"`
	Endpoint  string          `json:"vpcEndpointId"`
	Category  string          `json:"eventCategory"`
}

// identity is who called (user guide, "CloudTrail userIdentity element").
type identity struct {
	Type      string `json:"type"`
	Principal string `json:"principalId"`
	ARN       string `json:"arn"`
	Account   string `json:"accountId"`
	Key       string `json:"accessKeyId"`
	User      string `json:"userName"`
	Via       string `json:"invokedBy"`
	Context   struct {
		Issuer struct {
			ARN  string `json:"arn"`
			User string `json:"userName"`
		} `json:"sessionIssuer"`
		Attributes struct {
			Created string `json:"creationDate"`
			MFA     string `json:"mfaAuthenticated"`
		} `json:"attributes"`
		Delivery string `json:"ec2RoleDelivery"`
	} `json:"sessionContext"`
	Scope struct {
		IssuedTo string `json:"credentialsIssuedTo"`
		Source   string `json:"sourceArn"`
	} `json:"inScopeOf"`
	OnBehalf struct {
		User string `json:"userId"`
	} `json:"onBehalfOf"`
}

// Parse reads one record. ok is false for one that tells of no call: an insight. The
// error is of the kind Invalid.
func Parse(raw []byte) (_ *event.Event, ok bool, err error) {
	if len(raw) > MaxRecord {
		return nil, false, fault.New(fault.Exhausted, "a record has %d bytes", len(raw))
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, false, fault.New(fault.Invalid, "parse record: %w", err)
	}
	if r.Category == "Insight" || r.Type == "AwsCloudTrailInsight" {
		return nil, false, nil
	}
	at, err := time.Parse(time.RFC3339, r.Time)
	if err != nil || r.Name == "" || r.Source == "" || r.ID == "" {
		return nil, false, fault.New(fault.Invalid, "a record without event time, name, source or id")
	}
	c := &event.Call{
		ID: word(r.ID), Account: word(first(r.Recipient, r.Identity.Account)), Region: word(r.Region), Service: word(service(r.Source)), Name: word(r.Name), Type: word(r.Type),
		Read: strings.Trim(string(r.ReadOnly), `"`) == "true", Error: word(r.Error), Message: text(r.Message),
		Actor: actor(&r.Identity), Source: word(r.Address), Endpoint: word(r.Endpoint), Agent: text(r.Agent),
		Request: part(r.Request), Response: part(r.Response), Extra: part(r.Extra),
	}
	if c.Actor.Via == "" && c.Actor.Type == "AWSService" {
		c.Actor.Via = c.Source
	}
	return &event.Event{Version: event.Version, Kind: event.KindCall, Time: at.UTC(), Boot: c.ID, Call: c}, true, nil
}

func actor(i *identity) event.Actor {
	a := event.Actor{
		Type: word(i.Type), ARN: text(i.ARN), Account: word(i.Account), Name: word(i.User), Key: word(i.Key), Via: word(i.Via),
		MFA: i.Context.Attributes.MFA == "true", IssuedTo: text(i.Scope.IssuedTo), Delivery: word(i.Context.Delivery),
	}
	if created, err := time.Parse(time.RFC3339, i.Context.Attributes.Created); err == nil {
		a.Issued = created.UTC()
	}
	switch i.Type {
	case "AssumedRole":
		a.Role, a.Name = text(i.Context.Issuer.ARN), word(i.Context.Issuer.User)
		if rest, ok := strings.CutPrefix(after(a.ARN, 5), "assumed-role/"); ok {
			name, session, _ := strings.Cut(rest, "/")
			a.Name, a.Session = word(first(a.Name, name)), word(session)
		} else if _, session, ok := strings.Cut(i.Principal, ":"); ok {
			a.Session = word(session)
		}
	case "IdentityCenterUser":
		a.Name = word(first(a.Name, i.OnBehalf.User))
	case "FederatedUser", "IAMUser":
		if a.Name == "" {
			a.Name = word(a.ARN[strings.LastIndexByte(a.ARN, '/')+1:])
		}
	}
	if a.ARN == "" { // the root user's account, a service, an account of others
		a.ARN = text(first(i.Principal, i.Account, i.Via))
	}
	return a
}

// after returns what of an ARN is behind so many colons.
func after(arn string, colons int) string {
	for range colons {
		_, rest, ok := strings.Cut(arn, ":")
		if !ok {
			return ""
		}
		arn = rest
	}
	return arn
}

// service returns the name of a service as policies of IAM have it.
func service(source string) string {
	name, _, _ := strings.Cut(source, ".amazonaws.com")
	switch name {
	case "monitoring":
		return "cloudwatch"
	}
	return strings.ToLower(name)
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

func word(s string) string { return untrusted.Clip(s, maxWord) }
func text(s string) string { return untrusted.Clip(s, maxText) }

// part keeps a part of a record, as a copy that doesn't hold all of it in memory.
func part(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || len(raw) > maxPart || string(raw) == "null" {
		return nil
	}
	return bytes.Clone(raw)
}

// String says what was in documents.
func (c Counts) String() string {
	s := fmt.Sprintf("%d calls", c.Calls)
	if c.Skipped > 0 {
		s += fmt.Sprintf(", %d left out that are no calls", c.Skipped)
	}
	if c.Unreadable > 0 {
		s += fmt.Sprintf(", %d that can't be read", c.Unreadable)
	}
	return s
}
