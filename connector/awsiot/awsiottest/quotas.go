package awsiottest

import (
	"sync/atomic"
	"time"
)

// Quotas are limits of AWS IoT Core that differ between accounts, or that are
// off unless a test asks for them, because they slow down everything that
// connects again and again. [Options.WithAWSQuotas] sets all to AWS's.
type Quotas struct {
	// Throughput is how many bytes a second one connection may send; what
	// comes faster is delayed. It is a limit of what a connection is sent, too,
	// where [Options.OutboundRate] is set. 0 is AWS's 512 KiB, or no limit where
	// [Options.Rate] is negative; negative is no limit.
	Throughput int
	// ConnectRate is how many CONNECTs a second one client id may send. AWS
	// documents 1; users measured 0.1 (aws-greengrass-nucleus issue 1003).
	// 0, the default, is no limit.
	ConnectRate float64
	// AccountConnectRate is how many CONNECTs a second all clients may send.
	// AWS: 500, in small regions 100. 0, the default, is no limit.
	AccountConnectRate int
	// AccountPublishRate is how many publishes a second all clients may send.
	// AWS: 20,000, in small regions 2,000. 0, the default, is no limit.
	AccountPublishRate int
	// StoredRate is how many stored messages a second a client is sent after it
	// has resumed its session; twice that, from the queue of a shared
	// subscription. AWS: 10. 0, the default, is no limit.
	StoredRate int
	// QueueRate is how many messages a second are stored for all clients that
	// are away. AWS: 500. 0, the default, is no limit.
	QueueRate int
	// Retained is how many messages are retained; 0 is AWS's 500,000.
	Retained int
	// SessionExpiry is how long a session is kept; 0 is AWS's hour. Up to 7
	// days on request.
	SessionExpiry time.Duration
	// KeepAliveMin is the shortest keep-alive in seconds; 0 is AWS's 30.
	KeepAliveMin uint16
	// WebSocketLife is how long a connection over WebSocket lasts; 0 is AWS's
	// day.
	WebSocketLife time.Duration
}

// Inferred are choices where it is not known what AWS does. The zero value is
// what seems likeliest.
type Inferred struct {
	// SilentThrottle leaves a publish of QoS 1 that came too fast without an
	// answer in MQTT 5, too; otherwise PUBACK 0x97 says so. (MQTT 3.1.1 never
	// gets an answer.)
	SilentThrottle bool
	// DeniedCloses ends an MQTT 5 connection with DISCONNECT 0x87 where the
	// policy does not allow a publish of QoS 1 or a subscription; otherwise
	// PUBACK or SUBACK 0x87 says so. (MQTT 3.1.1 is always closed.)
	DeniedCloses bool
	// AttributesNeedCondition refuses a CONNECT that asks for a persistent
	// session, or has a will, unless the policy that allows iot:Connect has a
	// condition on iot:ConnectAttributes. The Developer Guide says so ("Using
	// connectAttributes"), and its examples contradict it ("Connect policy
	// examples": a plain Allow allows "any other feature").
	AttributesNeedCondition bool
}

func (q Quotas) withDefaults(rate int) Quotas {
	if q.Throughput == 0 && rate > 0 {
		q.Throughput = throughput
	}
	if q.Retained == 0 {
		q.Retained = retainedMax
	}
	if q.SessionExpiry == 0 {
		q.SessionExpiry = sessionExpiry
	}
	if q.KeepAliveMin == 0 {
		q.KeepAliveMin = keepAliveMin
	}
	if q.WebSocketLife == 0 {
		q.WebSocketLife = 24 * time.Hour
	}
	return q
}

// WithAWSQuotas returns options with every quota as AWS has it by default,
// those too that are off otherwise. Sources: AWS General Reference, "AWS IoT
// Core message broker and protocol limits and quotas"; Service Quotas
// "iotcore" (2024-02); Developer Guide, "MQTT persistent sessions" (10 stored
// messages a second).
func (o Options) WithAWSQuotas() Options {
	o.Rate, o.OutboundRate = publishRate, publishRate
	o.Quotas.Throughput = throughput
	o.Quotas.ConnectRate = 1
	o.Quotas.AccountConnectRate = 500
	o.Quotas.AccountPublishRate = 20_000
	o.Quotas.StoredRate = 10
	o.Quotas.QueueRate = 500
	return o
}

// Quota names a limit whose excesses are counted.
type Quota string

// The limits whose excesses are counted.
const (
	QuotaPublishRate        Quota = "publishes a second of a connection, inbound"
	QuotaOutboundRate       Quota = "publishes a second of a connection, outbound"
	QuotaThroughput         Quota = "bytes a second of a connection"
	QuotaInboundUnacked     Quota = "unacknowledged publishes of a client"
	QuotaOutboundUnacked    Quota = "unacknowledged publishes to a client"
	QuotaPayload            Quota = "size of a payload"
	QuotaTopic              Quota = "form of a topic"
	QuotaFilter             Quota = "form of a topic filter"
	QuotaFiltersAtOnce      Quota = "filters of a SUBSCRIBE"
	QuotaSubscriptions      Quota = "subscriptions of a connection"
	QuotaClientID           Quota = "form of a client id"
	QuotaConnectRate        Quota = "CONNECTs a second of a client id"
	QuotaAccountConnectRate Quota = "CONNECTs a second of the account"
	QuotaAccountPublishRate Quota = "publishes a second of the account"
	QuotaQueueRate          Quota = "stored messages a second of the account"
	QuotaQueueSize          Quota = "messages that wait for a client"
	QuotaRetained           Quota = "retained messages"
	QuotaQoS                Quota = "quality of service"
)

// exceeded counts what went over a limit.
type exceeded map[Quota]*atomic.Uint64

func newExceeded() exceeded {
	e := exceeded{}
	for _, q := range []Quota{
		QuotaPublishRate, QuotaOutboundRate, QuotaThroughput, QuotaInboundUnacked, QuotaOutboundUnacked, QuotaPayload, QuotaTopic, QuotaFilter,
		QuotaFiltersAtOnce, QuotaSubscriptions, QuotaClientID, QuotaConnectRate, QuotaAccountConnectRate, QuotaAccountPublishRate,
		QuotaQueueRate, QuotaQueueSize, QuotaRetained, QuotaQoS,
	} {
		e[q] = &atomic.Uint64{}
	}
	return e
}

func (e exceeded) add(q Quota) { e[q].Add(1) }

// Exceeded is how often a limit was exceeded: how many packets or messages
// were discarded, delayed or refused for it, or connections ended.
func (s *Server) Exceeded(q Quota) uint64 {
	if n := s.broker.exceeded[q]; n != nil {
		return n.Load()
	}
	return 0
}
