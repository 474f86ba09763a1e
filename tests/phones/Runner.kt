import example.uploads.BrokerUploads
import example.uploads.Refused
import java.io.File
import java.io.IOException
import kotlin.system.exitProcess

/** The commands `add VIDEO TYPE`, `run` and `cancel` on the uploads of a folder: FOLDER PREFIX TOKEN COMMAND … */
fun main(arguments: Array<String>) {
    val uploads = BrokerUploads(File(arguments[0]), arguments[1]) { arguments[2] }
    try {
        when (arguments[3]) {
            "add" -> println(uploads.add(File(arguments[4]), arguments[5]))
            "run" -> for (id in uploads.unfinished()) println(uploads.run(id) { arrived, all -> println("$arrived of $all") })
            "cancel" -> uploads.unfinished().forEach(uploads::cancel)
        }
    } catch (error: IOException) {
        println("later: ${error.message}")
        exitProcess(75)
    } catch (error: Refused) {
        println("refused: ${error.message}")
        exitProcess(1)
    }
}
