package link

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/proto/linkv1"
	"github.com/castellan-security/castellan/proto/linkv1/linkv1connect"
)

// Limits of the carriage.
const (
	// MaxMessage bounds one report on the wire, unpacked: a snapshot of
	// MaxProcesses with short command lines fits.
	MaxMessage = 32 << 20
	// maxAtOnce bounds how many reports are read at the same time, and with
	// MaxMessage the memory that all agents together can take.
	maxAtOnce = 16
	// smallReport is what most reports stay below; of those maxSmall are read at
	// once, because each waits for the store, which commits many together.
	smallReport = 256 << 10
	maxSmall    = 512
	// maxAsked bounds what asks for a certificate or for directives: a request
	// for a certificate has less than 10 KiB.
	maxAsked = 64 << 10
	// worthCompressing is how long an answer must be for that: a receipt is a few
	// bytes, and readying a compressor cost more than all else of its answer.
	worthCompressing = 4 << 10
	// maxInventoryMessage bounds an answer to a scan on the wire, and
	// maxInventories how many of them are read at once: each can take long, and
	// agents that wait try again.
	maxInventoryMessage = MaxInventory + maxAsked
	maxInventories      = 4
	// maxVerdictMessage bounds an answer to a wish to verify on the wire.
	maxVerdictMessage = MaxVerdict + maxAsked
	// maxAdmittedMessage bounds a report of decisions on the wire, and maxAdmission
	// how many of these and of briefs are at work at once: a brief may gather what is
	// known of some images first.
	maxAdmittedMessage = MaxReport + maxAsked
	maxAdmission       = 8
	// maxBehaviourMessage bounds what an agent says it holds on the wire, and
	// maxBehaviour how many of these are at work at once: rules are compiled then.
	maxBehaviourMessage = 1 << 20
	maxBehaviour        = 4
	// maxPieceMessage bounds a piece of a snapshot on the wire, and maxPieces how many
	// of these are at work at once: each is written to the disk.
	maxPieceMessage = MaxPiece + maxAsked
	maxPieces       = 8
	// directiveWrite is how long an agent may take to accept one directive. Who
	// is slower is cut off and asks again.
	directiveWrite = 10 * time.Second
)

// Gate says which agent a request comes from. It is the only thing that a
// handler trusts about that: what stands inside a request is compared with it.
type Gate interface {
	// Admit returns the id of the agent whose certificate the request's
	// connection proved, and a context for the work, which ends with the reason
	// as its cause when the agent is revoked meanwhile. leave is called when the
	// work is done. Errors: Unauthenticated without a certificate, Denied with
	// one that does not count, or no longer.
	Admit(r *http.Request) (agentID string, ctx context.Context, leave func(), err error)
}

// Handler returns the path and the HTTP handler that carries the calls of
// agents with a certificate over Connect: reports, directives and inventories to
// s, renewals to j. gate is asked before anything of a request is read. log gets the errors
// that are not shown to the caller.
func Handler(s Server, j Joiner, gate Gate, log *slog.Logger) (path string, h http.Handler) {
	path, inner := linkv1connect.NewLinkServiceHandler(&handler{server: s, joiner: j, log: log},
		connect.WithReadMaxBytes(MaxMessage), connect.WithCodec(boundedCodec{}), connect.WithCompressMinBytes(worthCompressing))
	lanes, refuse := newLanes(inner), connect.NewErrorWriter()
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agentID, ctx, leave, err := gate.Admit(r)
		if err != nil {
			// The connection is of no use any more; the client makes another one if
			// it gets another certificate. Who hung up already reads no answer.
			w.Header().Set("Connection", "close")
			_ = refuse.Write(w, r, errorToWire(r.Context(), err, log))
			return
		}
		defer leave()
		if strings.Contains(r.Header.Get("Content-Type"), "json") {
			// Connect would read it, without the limits of boundedCodec.
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		ctx = context.WithValue(ctx, callKey{}, call{agentID: agentID, control: http.NewResponseController(w)})
		r = r.WithContext(ctx)
		slots, next := lanes.of(r)
		if slots == nil {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			// Not silence: an empty answer would say that everything is stored.
			err := fault.New(fault.Unavailable, "the server has too much to do")
			if cause := context.Cause(ctx); fault.Of(cause) != fault.Unknown {
				_ = refuse.Write(w, r, errorToWire(ctx, cause, log))
				return
			}
			_ = refuse.Write(w, r, errorToWire(ctx, err, log))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// lanes keep calls of one kind from taking the place of others: each has so many slots,
// and calls that are as large as theirs.
type lanes struct {
	reports, small, inventory, verdict, admitted, held, piece http.Handler
	large, few, inventories, pieces, admission, behaviour     chan struct{}
}

func newLanes(inner http.Handler) *lanes {
	return &lanes{
		reports:   inner, // bounded by Connect
		small:     http.MaxBytesHandler(inner, maxAsked),
		inventory: http.MaxBytesHandler(inner, maxInventoryMessage),
		verdict:   http.MaxBytesHandler(inner, maxVerdictMessage),
		admitted:  http.MaxBytesHandler(inner, maxAdmittedMessage),
		held:      http.MaxBytesHandler(inner, maxBehaviourMessage+maxAsked),
		piece:     http.MaxBytesHandler(inner, maxPieceMessage),

		large:       make(chan struct{}, maxAtOnce),
		few:         make(chan struct{}, maxSmall),
		inventories: make(chan struct{}, maxInventories),
		pieces:      make(chan struct{}, maxPieces),
		admission:   make(chan struct{}, maxAdmission),
		behaviour:   make(chan struct{}, maxBehaviour),
	}
}

// of returns the slots that a call waits for one of, nil if it needs none, and what
// serves it.
func (l *lanes) of(r *http.Request) (slots chan struct{}, next http.Handler) {
	switch r.URL.Path {
	case linkv1connect.LinkServiceInventoryProcedure:
		return l.inventories, l.inventory
	case linkv1connect.LinkServiceVerdictProcedure, linkv1connect.LinkServiceRespondedProcedure:
		return l.few, l.verdict
	case linkv1connect.LinkServiceSnapshotProcedure:
		return l.pieces, l.piece
	case linkv1connect.LinkServiceBriefProcedure:
		return l.admission, l.small
	case linkv1connect.LinkServiceAdmittedProcedure:
		return l.admission, l.admitted
	case linkv1connect.LinkServiceBehaviourProcedure, linkv1connect.LinkServiceDetectionsProcedure:
		return l.behaviour, l.held
	case linkv1connect.LinkServiceReportProcedure:
		if r.ContentLength >= 0 && r.ContentLength <= smallReport && r.Header.Get("Content-Encoding") == "" {
			return l.few, l.reports
		}
		return l.large, l.reports
	}
	return nil, l.small
}

// IsStream reports whether a request asks for directives: its answer stays
// open, so the time limits of other requests are not for it.
func IsStream(r *http.Request) bool {
	return r.URL.Path == linkv1connect.LinkServiceDirectivesProcedure
}

// callKey is where Handler keeps the call in the context.
type callKey struct{}

// call is what the gate said of one request.
type call struct {
	agentID string
	control *http.ResponseController
}

func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

// handler is the server's end of the carriage.
type handler struct {
	server Server
	joiner Joiner
	log    *slog.Logger
}

// Report is linkv1connect.LinkServiceHandler. An agent speaks for itself alone.
func (h *handler) Report(ctx context.Context, req *connect.Request[linkv1.ReportRequest]) (*connect.Response[linkv1.ReportResponse], error) {
	r, err := fromWire(req.Msg)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	if own := callOf(ctx).agentID; own == "" || r.Agent.ID != own {
		return nil, h.refuse(ctx, fault.New(fault.Denied, "the certificate is of agent %s, the report of another one", own).
			With("the data folder holds the id of one agent and the certificate of another: join anew with castellan agent join --again"))
	}
	receipt, err := h.server.Report(ctx, r)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	return connect.NewResponse(&linkv1.ReportResponse{WantSnapshot: receipt.WantSnapshot, ThreatsTaken: receipt.ThreatsTaken}), nil
}

// Directives is linkv1connect.LinkServiceHandler.
func (h *handler) Directives(ctx context.Context, req *connect.Request[linkv1.DirectivesRequest], out *connect.ServerStream[linkv1.Directive]) error {
	c := callOf(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The headers go at once: the agent then knows that it is connected.
	err := h.sendInTime(c, func() error { return out.Send(nil) })
	if err != nil {
		return err
	}
	who := Caller{AgentID: c.agentID, Boot: req.Msg.GetBoot(), Version: req.Msg.GetVersion()}
	err = h.server.Directives(ctx, who, func(d Directive) {
		w, err := directiveToWire(d)
		if err != nil {
			h.log.Error("directive cannot be written", "directive_kind", d.Kind, "error", err)
			return
		}
		if err := h.sendInTime(c, func() error { return out.Send(w) }); err != nil {
			cancel(fault.New(fault.Unavailable, "send directive: %w", err))
		}
	})
	return h.refuse(ctx, err)
}

// sendInTime bounds one write to an agent that does not read.
func (h *handler) sendInTime(c call, send func() error) error {
	if c.control == nil {
		return send()
	}
	if err := c.control.SetWriteDeadline(time.Now().Add(directiveWrite)); err != nil {
		h.log.Debug("no time limit for a directive", "error", err)
	}
	err := send()
	if e := c.control.SetWriteDeadline(time.Time{}); e != nil {
		h.log.Debug("time limit of a directive not lifted", "error", e)
	}
	return err
}

// Renew is linkv1connect.LinkServiceHandler.
func (h *handler) Renew(ctx context.Context, req *connect.Request[linkv1.RenewRequest]) (*connect.Response[linkv1.Credentials], error) {
	c, err := h.joiner.Renew(ctx, callOf(ctx).agentID, req.Msg.GetCsr())
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	return connect.NewResponse(credentialsToWire(c)), nil
}

// Inventory is linkv1connect.LinkServiceHandler.
func (h *handler) Inventory(ctx context.Context, req *connect.Request[linkv1.InventoryRequest]) (*connect.Response[linkv1.InventoryResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.InventoryResponse, error) {
		s := scannedFromWire(req.Msg)
		s.AgentID = agentID
		if err := s.Check(); err != nil {
			return nil, err
		}
		return &linkv1.InventoryResponse{}, h.server.Inventory(ctx, s)
	})
}

// Verdict is linkv1connect.LinkServiceHandler.
func (h *handler) Verdict(ctx context.Context, req *connect.Request[linkv1.VerdictRequest]) (*connect.Response[linkv1.VerdictResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.VerdictResponse, error) {
		v := verifiedFromWire(req.Msg)
		v.AgentID = agentID
		if err := v.Check(); err != nil {
			return nil, err
		}
		return &linkv1.VerdictResponse{}, h.server.Verdict(ctx, v)
	})
}

// answer answers an agent, which its certificate names and nothing else, with what f
// returns for it, and refuses it what f has an error for.
func answer[A any](ctx context.Context, h *handler, f func(agentID string) (*A, error)) (*connect.Response[A], error) {
	agentID := callOf(ctx).agentID
	if agentID == "" {
		return nil, h.refuse(ctx, fault.New(fault.Denied, "the certificate names no agent"))
	}
	a, err := f(agentID)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	return connect.NewResponse(a), nil
}

// refuse shows err to the agent, or why its call was ended from here.
func (h *handler) refuse(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && fault.Of(cause) != fault.Unknown {
		err = cause
	}
	return errorToWire(ctx, err, h.log)
}

// JoinHandler returns the path and the HTTP handler by which agents without a
// certificate ask for one. Anybody may call it: j decides. address tells where
// a request comes from.
func JoinHandler(j Joiner, address func(*http.Request) string, log *slog.Logger) (path string, h http.Handler) {
	path, inner := linkv1connect.NewJoinServiceHandler(&joinHandler{joiner: j, log: log}, connect.WithReadMaxBytes(maxAsked))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), addressKey{}, address(r))
		inner.ServeHTTP(w, r.WithContext(ctx))
	})
}

// addressKey is where JoinHandler keeps the caller's address in the context.
type addressKey struct{}

type joinHandler struct {
	joiner Joiner
	log    *slog.Logger
}

// Join is linkv1connect.JoinServiceHandler.
func (h *joinHandler) Join(ctx context.Context, req *connect.Request[linkv1.JoinRequest]) (*connect.Response[linkv1.Credentials], error) {
	address, _ := ctx.Value(addressKey{}).(string)
	m := req.Msg
	c, err := h.joiner.Join(ctx, JoinRequest{
		Token: m.GetToken(), CSR: m.GetCsr(), AgentID: m.GetAgentId(),
		Hostname: m.GetHostname(), Version: m.GetVersion(), Address: address,
	})
	if err != nil {
		return nil, errorToWire(ctx, err, h.log)
	}
	return connect.NewResponse(credentialsToWire(c)), nil
}

func credentialsToWire(c Credentials) *linkv1.Credentials {
	return &linkv1.Credentials{Certificate: c.Certificate, Authority: c.Authority, AgentId: c.AgentID}
}

func credentialsFromWire(w *linkv1.Credentials) Credentials {
	return Credentials{AgentID: w.GetAgentId(), Certificate: w.GetCertificate(), Authority: w.GetAuthority()}
}

func directiveToWire(d Directive) (w *linkv1.Directive, err error) {
	w = &linkv1.Directive{Id: text(d.ID), Kind: text(d.Kind), IssuedUnixNs: nanos(d.Issued)}
	switch {
	case d.Settings != nil:
		w.BodyJson, err = json.Marshal(d.Settings)
	case d.Scan != nil:
		w.BodyJson, err = json.Marshal(d.Scan)
	case d.Verify != nil:
		w.BodyJson, err = json.Marshal(d.Verify)
	case d.Admission != nil:
		w.BodyJson, err = json.Marshal(d.Admission)
	case d.Behaviour != nil:
		w.BodyJson, err = json.Marshal(d.Behaviour)
	case d.Detect != nil:
		w.BodyJson, err = json.Marshal(d.Detect)
	case d.Respond != nil:
		w.BodyJson, err = json.Marshal(d.Respond)
	}
	return w, err
}

func directiveFromWire(w *linkv1.Directive) (Directive, error) {
	d := Directive{ID: w.GetId(), Kind: w.GetKind(), Issued: at(w.GetIssuedUnixNs())}
	var body any
	switch d.Kind {
	case DirectiveSettings:
		d.Settings = &asset.AgentSettings{}
		body = d.Settings
	case DirectiveScan:
		d.Scan = &ScanWish{}
		body = d.Scan
	case DirectiveVerify:
		d.Verify = &VerifyWish{}
		body = d.Verify
	case DirectiveAdmission:
		d.Admission = &AdmissionWish{}
		body = d.Admission
	case DirectiveBehaviour:
		d.Behaviour = &BehaviourWish{}
		body = d.Behaviour
	case DirectiveDetect:
		d.Detect = &DetectWish{}
		body = d.Detect
	case DirectiveRespond:
		d.Respond = &response.Deed{}
		body = d.Respond
	default:
		return d, nil
	}
	if err := json.Unmarshal(w.GetBodyJson(), body); err != nil {
		return Directive{}, fault.New(fault.Invalid, "read directive %s: %w", d.Kind, err)
	}
	return d, nil
}

func scannedToWire(s Scanned) *linkv1.InventoryRequest {
	return &linkv1.InventoryRequest{
		Job: text(s.Job), ImageId: text(s.ImageID), Inventory: s.Inventory,
		Error: text(s.Error), Remedy: text(s.Remedy), Final: s.Final, Missing: s.Missing,
	}
}

// scannedFromWire leaves out who answers: the certificate says it.
func scannedFromWire(w *linkv1.InventoryRequest) Scanned {
	return Scanned{
		Job: w.GetJob(), ImageID: w.GetImageId(), Inventory: w.GetInventory(),
		Error: w.GetError(), Remedy: w.GetRemedy(), Final: w.GetFinal(), Missing: w.GetMissing(),
	}
}

func verifiedToWire(v Verified) *linkv1.VerdictRequest {
	return &linkv1.VerdictRequest{
		Job: text(v.Job), Repository: text(v.Repository), Digest: text(v.Digest), Policy: text(v.PolicyDigest),
		VerdictJson: v.Verdict, Error: text(v.Error), Remedy: text(v.Remedy),
	}
}

// verifiedFromWire leaves out who answers: the certificate says it.
func verifiedFromWire(w *linkv1.VerdictRequest) Verified {
	return Verified{
		Job: w.GetJob(), Repository: w.GetRepository(), Digest: w.GetDigest(), PolicyDigest: w.GetPolicy(),
		Verdict: w.GetVerdictJson(), Error: w.GetError(), Remedy: w.GetRemedy(),
	}
}
