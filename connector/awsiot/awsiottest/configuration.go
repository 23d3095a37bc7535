package awsiottest

import "fmt"

const (
	accountPrefix = "emulator-ats"
	deviceType    = "LoRaWAN"
)

// Configuration is the configuration of a connection to the emulator, with
// the names of POST /connections.
type Configuration struct {
	Description          string `json:"description"`
	UplinkTopicPattern   string `json:"uplinkTopicPattern"`
	DownlinkTopicPattern string `json:"downlinkTopicPattern"`
	DeviceType           string `json:"deviceType"`
	Region               string `json:"region"`
	AccountPrefix        string `json:"accountPrefix"`
	AccessKeyID          string `json:"accessKeyId"`
	SecretAccessKey      string `json:"secretAccessKey"`
	CertificateID        string `json:"certificateId"` // the ARN
	Certificate          string `json:"certificate"`
	PrivateKey           string `json:"privateKey"`
	DataEndpoint         string `json:"dataEndpoint"`      // host:port
	WebSocketEndpoint    string `json:"webSocketEndpoint"` // host:port, for the protocol WSS
	PublishEndpoint      string `json:"publishEndpoint"`   // host:port, for the protocol HTTPS
	ControlEndpoint      string `json:"controlEndpoint"`   // a URL
	STSEndpoint          string `json:"stsEndpoint"`       // a URL
	CACertificate        string `json:"caCertificate"`
}

// Configuration makes all that a connection needs, a certificate and a thing
// type, and returns its configuration; the same at every call. Like httptest
// it panics where it cannot, which means that the system has no randomness.
func (s *Server) Configuration() Configuration {
	s.configureOnce.Do(func() {
		c, err := s.CreateKeysAndCertificate(true)
		if err == nil {
			err = s.CreateThingType(deviceType)
		}
		if err != nil {
			panic(fmt.Sprintf("awsiottest: make a configuration: %v", err))
		}
		s.configuration = s.configurationFor(c)
	})
	return s.configuration
}

func (s *Server) configurationFor(c Certificate) Configuration {
	return Configuration{
		Description:          "AWS IoT emulator",
		UplinkTopicPattern:   "tpx/things/{DevEUI}/uplink",
		DownlinkTopicPattern: "tpx/things/{DevEUI}/downlink",
		DeviceType:           deviceType,
		Region:               s.options.Region,
		AccountPrefix:        accountPrefix,
		AccessKeyID:          s.key.ID,
		SecretAccessKey:      s.key.Secret,
		CertificateID:        c.ARN,
		Certificate:          c.CertificatePEM,
		PrivateKey:           c.PrivateKeyPEM,
		DataEndpoint:         s.MQTTAddr(),
		WebSocketEndpoint:    s.Addr443(),
		PublishEndpoint:      s.Addr8443(),
		ControlEndpoint:      s.ControlURL(),
		STSEndpoint:          s.ControlURL(),
		CACertificate:        s.CAPEM(),
	}
}
