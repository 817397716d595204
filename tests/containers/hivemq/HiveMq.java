import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

/** HiveMQ CE as a program: {@code java HiveMq HOME}, with HOME/conf/config.xml. SIGTERM stops it cleanly. */
public final class HiveMq {

    public static void main(final String[] args) throws Exception {
        final Path home = Path.of(args[0]).toAbsolutePath();
        System.setProperty("hivemq.home", home.toString()); // where the log goes
        // Embedded, it lets every client in, as the official image does.
        final EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(home.resolve("conf"))
                .withDataFolder(Files.createDirectories(home.resolve("data")))
                .withExtensionsFolder(Files.createDirectories(home.resolve("extensions")))
                .build();
        broker.start().join();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
        new CountDownLatch(1).await();
    }
}
